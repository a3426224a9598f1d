// Package release makes what is handed out: the deb, the rpm, the archive of both
// programs, the list of what is linked into them (CycloneDX), and checksums.
//
//	go run ./internal/release/make -out dist deb rpm
//
// The same sources give the same bits, whoever builds them, where, when and with
// which umask: the programs are built without paths and without the state of the
// working tree, files are staged with modes that are set and times of the last commit
// (SOURCE_DATE_EPOCH), and nothing is read from the host but the Go toolchain.
//
// What a package contains stands in packaging/nfpm.yaml.
package release
