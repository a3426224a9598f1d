package config

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
)

const (
	manual  = "../../docs/configuration.md"
	example = "../../systemd/spinecert.yaml"
)

// A reference row describes one key; NAME stands for a name that the operator chose.
type referenceRow struct {
	key, kind, fallback, doc string
	later                    bool
}

func reference() []referenceRow { return rowsOf(reflect.TypeFor[rawConfig](), "") }

func rowsOf(t reflect.Type, prefix string) []referenceRow {
	var rows []referenceRow
	for i := range t.NumField() {
		field := t.Field(i)
		name := field.Tag.Get("yaml")
		if name == "" {
			continue
		}
		key := prefix + name
		rows = append(rows, referenceRow{key, kindOf(field), fallbackOf(field.Tag), field.Tag.Get("doc"), field.Type == reflect.TypeFor[later]()})
		switch {
		case strings.HasPrefix(field.Type.Name(), "table["):
			row, _ := field.Type.FieldByName("rows")
			value, _ := row.Type.Elem().FieldByName("value")
			rows = append(rows, rowsOf(value.Type, key+".NAME.")...)
		case field.Type == reflect.TypeFor[list[rawListener]]():
			rows = append(rows, rowsOf(reflect.TypeFor[rawSocket](), key+"[].")...)
		case field.Type == reflect.TypeFor[list[rawServiceFile]]():
			rows = append(rows, rowsOf(reflect.TypeFor[rawServiceFile](), key+"[].")...)
		case field.Type == reflect.TypeFor[orNone[rawValidate]]():
			rows = append(rows, rowsOf(reflect.TypeFor[rawValidate](), key+".")...)
		case field.Type == reflect.TypeFor[orNone[rawReload]]():
			rows = append(rows, rowsOf(reflect.TypeFor[rawReload](), key+".")...)
		case field.Type == reflect.TypeFor[rawProbes]():
			rows = append(rows, rowsOf(reflect.TypeFor[rawProbe](), key+".")...)
		case strings.HasPrefix(field.Type.Name(), "raw"):
			rows = append(rows, rowsOf(field.Type, key+".")...)
		}
	}
	return rows
}

func kindOf(field reflect.StructField) string {
	name := field.Type.Name()
	kind := map[string]string{
		"text": "text", "path": "path", "boolean": "true or false", "count": "number", "duration": "duration", "size": "size",
		"automatic": "auto or list", "rawProbes": "none, mapping or list of mappings",
	}[name]
	switch {
	case kind != "":
	case strings.HasPrefix(name, "list["):
		kind = "list"
	case strings.HasPrefix(name, "orNone["):
		kind = "none or mapping"
	default:
		kind = "mapping"
	}
	if enum := words(field.Tag, "enum"); len(enum) > 0 && kind == "list" {
		kind = "list of `" + strings.Join(enum, "`, `") + "`"
	} else if len(enum) > 0 {
		kind = "`" + strings.Join(enum, "`, `") + "`"
	}
	if low, high := field.Tag.Get("min"), field.Tag.Get("max"); low != "" {
		kind += ", " + low + " to " + high
	}
	return kind
}

func fallbackOf(tag reflect.StructTag) string {
	if fallback := tag.Get("default"); fallback != "" {
		return "`" + fallback + "`"
	}
	return tag.Get("auto")
}

func referenceTable() string {
	var b strings.Builder
	b.WriteString("| key | value | default | meaning |\n|---|---|---|---|\n")
	for _, r := range reference() {
		if r.later {
			r.doc = "Not supported by this version."
			r.kind = ""
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", r.key, r.kind, r.fallback, r.doc)
	}
	return b.String()
}

const begin, end = "<!-- reference: made from internal/config/raw.go by go test ./internal/config -update -->\n", "<!-- end of reference -->\n"

// The reference table of the manual is the one that the code makes.
func TestManualTable(t *testing.T) {
	text := string(read(t, manual))
	before, rest, ok := strings.Cut(text, begin)
	table, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has lost the marks around the table", manual)
	}
	want := referenceTable()
	if *update {
		if err := os.WriteFile(manual, []byte(before+begin+want+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
		table = want
	}
	if diff := cmp.Diff(want, table); diff != "" {
		t.Errorf("the table differs, go test -update makes it anew (-want +got):\n%s", diff)
	}
}

// Every key of the contract is in the manual, with its path in the table.
func TestManualHasEveryKeyOfTheContract(t *testing.T) {
	table := referenceTable()
	for _, key := range contractKeys(t) {
		if !strings.Contains(table, "| `"+key+"` |") {
			t.Errorf("%s is not in the table", key)
		}
	}
}

// Every key of the contract is in the shipped example, as a setting, a commented setting or in its words.
func TestExampleHasEveryKeyOfTheContract(t *testing.T) {
	text := string(read(t, example))
	for _, key := range contractKeys(t) {
		name := key[strings.LastIndexByte(key, '.')+1:]
		if !regexp.MustCompile(`\b` + name + `\b`).MatchString(text) {
			t.Errorf("%s is not in %s", key, example)
		}
	}
	for _, r := range reference() {
		name := r.key[strings.LastIndexByte(r.key, '.')+1:]
		if !r.later && !regexp.MustCompile(`\b`+name+`: `).MatchString(text) && !regexp.MustCompile(`\b`+name+`:\n`).MatchString(text) {
			t.Errorf("%s is not in %s", r.key, example)
		}
	}
}

// contractKeys returns the keys of the configuration in the contract, with NAME for the names.
func contractKeys(t *testing.T) []string {
	t.Helper()
	var tree yaml.MapSlice
	if err := yaml.UnmarshalWithOptions(read(t, "testdata/good_contract.yaml"), &tree, yaml.UseOrderedMap()); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	var keys []string
	var walk func(prefix string, value any)
	walk = func(prefix string, value any) {
		switch value := value.(type) {
		case yaml.MapSlice:
			for _, item := range value {
				key := prefix + item.Key.(string)
				if prefix == "environments." || prefix == "slots." || prefix == "tunnels." || prefix == "services." || prefix == "alerts.sinks." {
					key = prefix + "NAME"
				} else if !seen[key] {
					seen[key] = true
					keys = append(keys, key)
				}
				walk(key+".", item.Value)
			}
		case []any:
			for _, item := range value {
				walk(strings.TrimSuffix(prefix, ".")+"[].", item)
			}
		}
	}
	walk("", tree)
	if len(keys) < 100 {
		t.Fatalf("only %d keys in the contract: %v", len(keys), keys)
	}
	return keys
}

// The shipped example is a configuration, both as it is and with its commented settings in force. Commented settings
// follow the "#" directly or after pairs of blanks, words after one.
func TestExample(t *testing.T) {
	data := read(t, example)
	setting := regexp.MustCompile(`(?m)^#((?:  )*[^ #\n].*)$`)
	variants := map[string][]byte{"shipped": data, "everything": setting.ReplaceAll(data, []byte("$1"))}
	for name, data := range variants {
		t.Run(name, func(t *testing.T) {
			c, err := Parse(data, "/etc/spinecert/spinecert.yaml")
			if err != nil {
				t.Fatalf("%v\n%s", err, data)
			}
			if got, want := c.Environments[0].Trust[0], "/etc/spinecert/trust/live.pem"; got != want {
				t.Errorf("trust = %q, want %q", got, want)
			}
			if name == "everything" && (len(c.Slots) < 1 || len(c.Tunnels) < 2 || len(c.Services) < 4 || len(c.Alerts.Sinks) < 5) {
				t.Errorf("%d slots, %d tunnels, %d services, %d sinks: the commented settings were not found", len(c.Slots), len(c.Tunnels), len(c.Services), len(c.Alerts.Sinks))
			}
		})
	}
}

// The values of commented settings are the defaults, so that to remove the "#" changes nothing.
func TestExampleShowsDefaults(t *testing.T) {
	text := string(read(t, example))
	for _, r := range reference() {
		fallback := strings.Trim(r.fallback, "`")
		if fallback == r.fallback || r.key == "environments.NAME.profile" {
			continue // no fixed default
		}
		name := r.key[strings.LastIndexByte(r.key, '.')+1:]
		shown := regexp.MustCompile(`\b` + name + `: \[?"?` + strings.ReplaceAll(regexp.QuoteMeta(fallback), ",", ", ?") + `\b`)
		if !shown.MatchString(text) {
			t.Errorf("%s does not show %s: %s", filepath.Base(example), r.key, fallback)
		}
	}
}
