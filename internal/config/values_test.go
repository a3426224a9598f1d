package config

import (
	"testing"
	"time"
)

func TestParseDuration(t *testing.T) {
	const day = 24 * time.Hour
	good := map[string]time.Duration{
		"0s": 0, "10s": 10 * time.Second, "90d": 90 * day, "1d12h": 36 * time.Hour, "1d1h1m1s1ms": day + time.Hour + time.Minute + time.Second + time.Millisecond,
		"90m": 90 * time.Minute, "250ms": 250 * time.Millisecond, "106751d": 106751 * day,
	}
	for s, want := range good {
		if got, err := ParseDuration(s); err != nil || got != want {
			t.Errorf("ParseDuration(%q) = %v, %v, want %v", s, got, err, want)
		}
	}
	bad := []string{
		"", "0", "30", "-1s", "+1s", "1.5h", "1 s", " 1s", "1s ", "1h1d", "1s1s", "1ms1s", "1w", "1y", "1D", "s", "1d12", "106752d",
		"99999999999999999999s", "9223372036854775807s", "1µs", "1ns", "\u0661s",
	}
	for _, s := range bad {
		if got, err := ParseDuration(s); err == nil {
			t.Errorf("ParseDuration(%q) = %v, want an error", s, got)
		}
	}
}

func TestParseSize(t *testing.T) {
	good := map[string]int64{"0B": 0, "512B": 512, "64KiB": 64 << 10, "1MiB": 1 << 20, "2GiB": 2 << 30, "8589934591GiB": 8589934591 << 30}
	for s, want := range good {
		if got, err := ParseSize(s); err != nil || got != want {
			t.Errorf("ParseSize(%q) = %v, %v, want %v", s, got, err, want)
		}
	}
	for _, s := range []string{"", "0", "64", "64K", "64KB", "64kib", "1.5MiB", "-1MiB", "1 MiB", "1MiB1KiB", "8589934592GiB", "MiB"} {
		if got, err := ParseSize(s); err == nil {
			t.Errorf("ParseSize(%q) = %v, want an error", s, got)
		}
	}
}

func TestNearest(t *testing.T) {
	names := []string{"revocation", "crl", "trust", "max_size", "slot", "files"}
	for name, want := range map[string]string{
		"revokation": "revocation", "Trust": "trust", "max-size": "max_size", "slots": "slot", "file": "files", "colour": "", "x": "", "clr": "crl",
	} {
		if got := nearest(name, names); got != want {
			t.Errorf("nearest(%q) = %q, want %q", name, got, want)
		}
	}
}

func TestNot(t *testing.T) {
	for _, c := range []struct{ key, text, want string }{
		{"log.level", "loud", `, not "loud"`},
		{"environments.live.crl.proxy", "word", ""},
		{"slots.a.files.password_file", "word", ""},
		{"alerts.sinks.hook.url", "word", ""},
		{"tunnels.a.proxy_protocol", "v1", `, not "v1"`},
		{"log.level", "http://user:word", ""},
		{"log.level", "user@word", ""},
		{"log.level", "two words", ""},
		{"log.level", "a\nb", ""},
	} {
		if got := (place{key: c.key}).not(c.text); got != c.want {
			t.Errorf("%s, %q: %q, want %q", c.key, c.text, got, c.want)
		}
	}
}
