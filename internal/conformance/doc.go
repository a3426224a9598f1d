// Conformance judges the program's verifier, endpoints and tunnels by suites of
// others and of our own, prints a table for each and, last, a line of JSON:
//
//	go run ./internal/conformance [-suite NAME]
//
// It exits with 0 if there is no false accept and no case is judged wrong. The
// same cases run as Go tests. See docs/conformance.md.
package main
