// Package packaging builds the packages for tests, and tests them: what is in them,
// that they are the same bits twice, what lintian says, the units, and what install,
// upgrade, removal and purge do in a systemd of their own (package box).
//
//	b := box.Start(t)
//	packaging.Install(t, b, packaging.Deb(t))
//
// It is for tests only. Packages for people are made by package release.
package packaging
