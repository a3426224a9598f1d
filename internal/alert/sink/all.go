package sink

import (
	"github.com/spinecert/spinecert/internal/config"
	"github.com/spinecert/spinecert/pki"
)

// All makes the sinks of a configuration, in their order. The error is config.Problems, one
// for each sink that cannot be made.
func All(c *config.Config, sinks []config.Sink, o Options) ([]Sink, error) {
	var problems config.Problems
	out := make([]Sink, 0, len(sinks))
	for _, s := range sinks {
		made, err := New(s, o)
		if err != nil {
			problems = append(problems, config.Caused(c.File, "alerts.sinks."+s.Name, err, pki.Hint(err)))
			continue
		}
		out = append(out, made)
	}
	if len(problems) > 0 {
		return nil, problems
	}
	return out, nil
}
