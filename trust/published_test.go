package trust

import (
	"net/url"
	"strings"
	"testing"
)

// TestPublished: two for each world, root first, and of one host that may be asked.
func TestPublished(t *testing.T) {
	for _, world := range []string{WorldLive, WorldPTL} {
		list := Published(world)
		if len(list) != 2 || !list[0].Root || list[1].Root {
			t.Fatalf("%s: %+v", world, list)
		}
		for _, p := range list {
			u, err := url.Parse(p.Address)
			if err != nil || u.Host != PublishedHost || p.World != world || (world == WorldLive) != strings.HasPrefix(u.Path, "/live/") {
				t.Errorf("%s: %+v, %v", world, p, err)
			}
		}
	}
	if list := Published("other"); len(list) > 0 {
		t.Errorf("%+v", list)
	}
}

func TestWorlds(t *testing.T) {
	for _, k := range knownCAs {
		want := WorldPTL
		if strings.Contains(" NHS Root Authority G2 NHS Authentication G2 NHS Root Authority NHS Level 1C ", " "+k.Name+" ") {
			want = WorldLive
		}
		if got, ok := KnownFingerprint(k.fingerprint); !ok || got.World() != want {
			t.Errorf("%s: %+v, %v", k.Name, got, ok)
		}
	}
	if k, ok := KnownFingerprint(strings.Repeat("0", 64)); ok {
		t.Errorf("%+v", k)
	}
}
