package release

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"
)

var (
	described  = regexp.MustCompile(`^v?(\d+\.\d+\.\d+)(?:-([0-9A-Za-z.]+))?(?:-(\d+)-(g[0-9a-f]+))?$`)
	commitOnly = regexp.MustCompile(`^[0-9a-f]{7,40}$`)
)

// PackageVersion makes a version that dpkg and rpm take, and sort as they should, of
// what git describe says: v1.2.0 is 1.2.0, v1.2.0-rc.1 is 1.2.0~rc.1 (before it), and
// v1.2.0-5-gabc1234 is 1.2.0+5.gabc1234 (after it). Without a tag the time of the
// commit sorts. "-dirty", of a tree with changes, is kept.
func PackageVersion(describe string, at time.Time) (string, error) {
	clean, dirty := strings.CutSuffix(describe, "-dirty")
	var version, after string
	if m := described.FindStringSubmatch(clean); m != nil {
		version = m[1]
		if m[2] != "" {
			version += "~" + m[2]
		}
		if m[3] != "" {
			after = m[3] + "." + m[4]
		}
	} else if commitOnly.MatchString(clean) {
		version, after = "0.0.0", at.UTC().Format("20060102150405")+".g"+clean
	} else {
		return "", fmt.Errorf("parse version %q: want what git describe --tags --always says, such as v1.2.0 or v1.2.0-5-gabc1234", describe)
	}
	if dirty {
		after = strings.TrimPrefix(after+".dirty", ".")
	}
	if after != "" {
		version += "+" + after
	}
	return version, nil
}

// Describe returns the version of the sources in root, unless the caller knows it,
// and the time of the last commit, which the environment variable SOURCE_DATE_EPOCH
// goes before. What is missing, git says.
func Describe(ctx context.Context, root, known string) (version string, at time.Time, err error) {
	if version = known; version == "" {
		if version, err = git(ctx, root, "describe", "--tags", "--always", "--dirty"); err != nil {
			return "", time.Time{}, err
		}
	}
	epoch, ok := os.LookupEnv("SOURCE_DATE_EPOCH")
	if !ok {
		if epoch, err = git(ctx, root, "log", "-1", "--format=%ct"); err != nil {
			return "", time.Time{}, err
		}
	}
	seconds, err := strconv.ParseInt(epoch, 10, 64)
	if err != nil {
		return "", time.Time{}, fmt.Errorf("parse SOURCE_DATE_EPOCH %q: want seconds since 1970", epoch)
	}
	return version, time.Unix(seconds, 0).UTC(), nil
}

func git(ctx context.Context, root string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("ask git in %q for %s: %w", root, args[0], err)
	}
	return strings.TrimSpace(string(out)), nil
}
