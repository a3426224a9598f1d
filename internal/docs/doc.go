// Package docs holds no code: its tests hold the manual (README.md and docs/)
// against the program. A reason without a row in docs/refusals.md, a link that
// leads nowhere, a command that does not exist and an example that the
// configuration parser refuses are test failures.
package docs
