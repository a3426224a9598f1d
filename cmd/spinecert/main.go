// Command spinecert is the command line of Spinecert, see package internal/cli.
package main

import (
	"context"
	"os"

	"github.com/spinecert/spinecert/internal/cli"
)

// version is set by the build.
var version = "dev"

func main() {
	os.Exit(cli.Main(context.Background(), version, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
