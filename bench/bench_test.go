package main

import (
	"math"
	"strings"
	"testing"
	"time"
)

func TestParseStat(t *testing.T) {
	const line = "4711 (nginx: (worker) x) S 4710 4711 4710 0 -1 4194624 100 0 0 0 150 50 20 3 20 0 1 0 12345 1000 200"
	got, err := parseStat([]byte(line))
	if err != nil {
		t.Fatal(err)
	}
	if want := (stat{parent: 4710, cpu: 2230 * time.Millisecond}); got != want {
		t.Errorf("parseStat = %+v, want %+v", got, want)
	}
	for _, bad := range []string{"", "1 (x", "1 (x) S 1 2 3", strings.Replace(line, " 150 ", " x ", 1)} {
		if _, err := parseStat([]byte(bad)); err == nil {
			t.Errorf("parseStat(%q) succeeded", bad)
		}
	}
}

func TestParseRollup(t *testing.T) {
	const text = "55d-7ff ---p 00000000 00:00 0    [rollup]\nRss:      2048 kB\nPss:      1024 kB\nPss_Dirty:   12 kB\n"
	got, err := parseRollup([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if want := (memory{rss: 2 << 20, pss: 1 << 20}); got != want {
		t.Errorf("parseRollup = %+v, want %+v", got, want)
	}
	if _, err := parseRollup([]byte("Rss: 1 kB\n")); err == nil {
		t.Error("parseRollup without a Pss line succeeded")
	}
}

func TestStatistics(t *testing.T) {
	nan := math.NaN()
	values := []float64{3, nan, 1, 2, 10}
	for _, tt := range []struct {
		name      string
		got, want float64
	}{
		{"median, odd", median([]float64{9, 1, 2}), 2},
		{"median, even, NaN left out", median(values), 2.5},
		{"p50", quantile(values, 0.50), 2},
		{"p99", quantile(values, 0.99), 10},
		{"max", quantile(values, 1), 10},
		{"ratio of paired rounds", median(ratios([]float64{2, nan, 9}, []float64{1, 1, 3})), 2.5},
	} {
		if tt.got != tt.want {
			t.Errorf("%s = %v, want %v", tt.name, tt.got, tt.want)
		}
	}
	if got := median(nil); !math.IsNaN(got) {
		t.Errorf("median of nothing = %v, want NaN", got)
	}
}

func TestVerdict(t *testing.T) {
	for _, tt := range []struct {
		value, target float64
		want          string
	}{{1.4, 1.4, "pass"}, {1.41, 1.4, "MISS"}, {0, 0, "pass"}, {math.NaN(), 1, "not measured"}} {
		if got := verdict(tt.value, tt.target); got != tt.want {
			t.Errorf("verdict(%v, %v) = %q, want %q", tt.value, tt.target, got, tt.want)
		}
	}
}
