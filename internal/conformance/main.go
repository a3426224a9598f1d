package main

import (
	"flag"
	"fmt"
	"os"
)

func main() { os.Exit(conform()) }

func conform() int {
	only := flag.String("suite", "", "run this suite alone")
	flag.Parse()
	var reports []report
	for _, s := range suites() {
		if *only == "" || *only == s.name {
			r := s.judge(false)
			r.print(os.Stdout)
			reports = append(reports, r)
		}
	}
	if len(reports) == 0 {
		fmt.Fprintf(os.Stderr, "error: there is no suite %q\n", *only)
		return 2
	}
	if err := printJSON(os.Stdout, reports); err != nil {
		fmt.Fprintf(os.Stderr, "error: %v\n", err)
		return 1
	}
	for _, r := range reports {
		if !r.good() {
			return 3
		}
	}
	return 0
}

// suites returns the suites in the order in which they are told.
func suites() []suite {
	return []suite{
		{"pkits", "NIST PKITS 1.0.1, through trust.State", pkits},
		{"bettertls", "Netflix BetterTLS, through trust.State and through a tunnel", betterTLS},
		{"hostile", "what a hostile peer, CA or CRL server tries, each with its good twin", hostile},
		{"provider-matrix", "the clients of NHS's provider suite, fresh and resumed", providerMatrix},
	}
}
