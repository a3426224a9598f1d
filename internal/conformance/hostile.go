package main

import "slices"

// hostile judges the rows of our own table.
func hostile(l *lab) ([]outcome, error) {
	var out []outcome
	for _, k := range slices.Concat(chainCases(), nameCases(), listCases(), stapleCases()) {
		out = append(out, judgeChain(l, k))
	}
	for _, k := range slices.Concat(handshakeCases(), ticketCases(), materialCases()) {
		out = append(out, judgeLive(l, k))
	}
	return append(out, fetchCases(l)...), nil
}
