// Package config reads the configuration of the daemon, spinecert.yaml.
//
// [Load] reads a file, [Parse] is pure; both return a [Config] whose values are checked and typed: durations, byte sizes,
// prefixes, TLS versions and cipher suites, absolute paths. A Config may name files that do not exist: missing material is
// an affair of the slots, never of the configuration. Only the templates of sinks are a part of it, which Load reads.
//
//	c, err := config.Load("/etc/spinecert/spinecert.yaml")
//	if problems, ok := errors.AsType[config.Problems](err); ok {
//		for _, p := range problems {
//			fmt.Println(p.Error()) // file:line:column: key.path: cause
//		}
//	}
//
// # How a file is read
//
// The tokens are looked at first (size, nesting, a second document, anchors and tags, which are refused), then the syntax
// tree is bound to the raw structs of raw.go, whose tags hold the name, default, limits and manual text of every key, and
// then the raw structs are turned into the Config. The same tags make the JSON Schema ([Schema]) and the reference table
// of docs/configuration.md.
//
// # Errors
//
// A wrong configuration is always [Problems]: everything that is wrong with it, in the order of the file. Only a
// syntax error stands alone. A Problem names file, line, column, key and cause. It never holds a source line, and
// never the value of a key that may hold a secret.
//
// # Concurrency
//
// A Config is never written after it was returned, and may be shared. Callers must not change it.
package config
