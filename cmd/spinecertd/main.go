// Command spinecertd is the daemon, see package internal/daemon.
package main

import (
	"context"
	"os"

	"github.com/spinecert/spinecert/internal/daemon"
)

// version is set by the build.
var version = "dev"

func main() {
	os.Exit(daemon.Main(context.Background(), version, os.Args[1:], os.Stdout, os.Stderr))
}
