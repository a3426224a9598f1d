// Package prometheus has no code but tests. They hold docs/prometheus.md, and the rules
// and the dashboard beside it, against
//
//   - docs/metrics.md: every series and every label that they name is there, and the
//     daemon's own tests hold that page against the program;
//   - the table of conditions: each has a rule, with its words and its page;
//   - promtool, which checks and tests the rules, and parses what the dashboard asks;
//   - a Prometheus that scrapes a spinecertd, both started here, with the configuration
//     of the page: alerts fire, outlast the daemon, and end with a new certificate.
//
// Everything listens on loopback addresses and is ended with its test. A program that is
// not installed skips its test, and in CI fails it.
package prometheus
