package web

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"golang.org/x/net/html"
)

// hostile is what somebody may write into a certificate.
const hostile = "\"'`><script>alert(1)</script><img src=x onerror=alert(1)>&lt;b&gt;{{.}}javascript:alert(1)\x00\x07\x1b[31m\r\n\u202e\u2066\u200b\ufeff\u2028\x80\xff</main></title><!--"

// TestHostileNamesStayText fills every text of a view, and looks at what a browser makes of it.
func TestHostileNamesStayText(t *testing.T) {
	t.Parallel()
	everything := &View{}
	fill(reflect.ValueOf(everything).Elem(), func(string, string) string { return hostile })
	shown := demo(20) // what depends on a state as well
	fill(reflect.ValueOf(shown).Elem(), func(field, was string) string {
		if slices.Contains([]string{"State", "Severity", "Kind", "Code", "Policy"}, field) {
			return was
		}
		return was + hostile
	})
	for name, v := range map[string]*View{"everything": everything, "shown": shown} {
		for _, target := range []string{"/", "/?q=%22%3E%3Cscript%3Ealert(1)%3C/script%3E%E2%80%AE%00", "/?page=%22%3E%3Cscript%3E&size=%22%3E"} {
			w := get(site(v), target)
			if w.Code != 200 {
				t.Fatal(w.Code)
			}
			for _, problem := range harm(w.Body.String()) {
				t.Errorf("%s, %.20s: %s", name, target, problem)
			}
		}
		page := get(site(v), "/").Body.String()
		if n := strings.Count(page, "alert(1)"); n < 50 {
			t.Errorf("%s: what is hostile is shown %d times: the page does not show what was filled in", name, n)
		}
	}
}

// fill gives every string that v has, and can have, another value. Slices get at least one element.
func fill(v reflect.Value, with func(field, was string) string) { fillField("", v, with) }

func fillField(field string, v reflect.Value, with func(field, was string) string) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(with(field, v.String()))
	case reflect.Pointer:
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
		}
		fillField(field, v.Elem(), with)
	case reflect.Slice:
		if v.Len() == 0 {
			v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		}
		for i := range v.Len() {
			fillField(field, v.Index(i), with)
		}
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			if v.Interface().(time.Time).IsZero() {
				v.Set(reflect.ValueOf(demoNow.Add(-time.Hour)))
			}
			return
		}
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				fillField(v.Type().Field(i).Name, v.Field(i), with)
			}
		}
	case reflect.Uint64, reflect.Int, reflect.Int64:
		if v.IsZero() && v.CanInt() {
			v.SetInt(1)
		} else if v.IsZero() {
			v.SetUint(1)
		}
	}
}

// What the page is made of. Nothing else may be in it.
var (
	elements = strings.Fields("html head meta title link script body a header h1 h2 h3 img span bdi p time main section svg path g line text use rect circle strong dl dt dd div form label input button nav ul ol li pre code table caption thead tbody tr th td details summary footer")
	attrs    = strings.Fields("lang charset name content rel href type src defer class id width height alt datetime tabindex data-version aria-label aria-labelledby aria-hidden viewBox d role method action for value autocomplete maxlength placeholder scope colspan title data-is x x1 x2 y y1 y2 dx rx r cx cy")
)

// harm says what a page has that it must not have.
func harm(page string) (out []string) {
	doc, err := html.Parse(strings.NewReader(page))
	if err != nil {
		return []string{err.Error()}
	}
	seen := map[string]int{}
	bad := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	for n := range doc.Descendants() {
		switch n.Type {
		case html.CommentNode:
			bad("a comment %q", n.Data)
		case html.TextNode:
			if i := strings.IndexFunc(n.Data, func(r rune) bool { return r != ' ' && !unicode.IsPrint(r) }); i >= 0 {
				bad("text with %q", n.Data[i:min(len(n.Data), i+4)])
			}
		case html.ElementNode:
			seen[n.Data]++
			if !slices.Contains(elements, n.Data) {
				bad("an element %q", n.Data)
			}
			for _, a := range n.Attr {
				switch {
				case !slices.Contains(attrs, a.Key):
					bad("an attribute %q of %s", a.Key, n.Data)
				case strings.ContainsFunc(a.Val, func(r rune) bool { return !unicode.IsPrint(r) }):
					bad("attribute %s of %s: %q", a.Key, n.Data, a.Val)
				case (a.Key == "href" || a.Key == "src" || a.Key == "action") && !strings.HasPrefix(a.Val, "#") && (!strings.HasPrefix(a.Val, "/") || strings.HasPrefix(a.Val, "//")):
					bad("an address %q", a.Val)
				case a.Key == "class" && strings.Contains(a.Val, "alert"):
					bad("a class %q", a.Val)
				}
			}
		}
	}
	for element, want := range map[string]int{"html": 1, "head": 1, "title": 1, "script": 1, "link": 2, "body": 1, "main": 1, "form": 1, "img": 1, "h1": 1, "header": 1, "footer": 1} {
		if seen[element] != want {
			bad("%d of %s, want %d", seen[element], element, want)
		}
	}
	return out
}

// TestHarmIsFound holds the test above to its word.
func TestHarmIsFound(t *testing.T) {
	t.Parallel()
	good := get(site(demo(1)), "/").Body.String()
	if out := harm(good); len(out) > 0 {
		t.Fatal(out)
	}
	for _, bad := range []string{"<script>alert(1)</script>", "<b>x</b>", `<p onclick="x">`, `<p style="x">`, "<!-- x -->", `<a href="//evil.example">`, `<a href="javascript:x">`, "\u202e", "\x1b", `<p class="alert">`, "<form></form>"} {
		if out := harm(strings.Replace(good, "<footer>", "<footer>"+bad, 1)); len(out) == 0 {
			t.Errorf("%q is not found", bad)
		}
	}
}

func TestPlain(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"": "", "pcs.nhs.uk": "pcs.nhs.uk", "Żółć 漢字 é": "Żółć 漢字 é", "a\tb\nc": `a\tb\nc`, "\u202eevil": `\u202eevil`, "\x1b[2J": `\x1b[2J`, "\x00": `\x00`,
		"\xff\xfe": `\xff\xfe`, "\ufffd": "\ufffd", "\u00a0": `\u00a0`, "\U000e0041": `\U000e0041`, "<b>": "<b>",
	} {
		if got := plain(in, 100); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
	if got := plain(strings.Repeat("é", 500), 10); got != "ééééé…" {
		t.Errorf("long: %q", got)
	}
	if got := plain(strings.Repeat("x", 500), 10); got != "xxxxxxxxxx…" {
		t.Errorf("long: %q", got)
	}
}

func TestLeft(t *testing.T) {
	t.Parallel()
	got := map[time.Duration]string{}
	for _, d := range []time.Duration{0, 59 * time.Second, time.Minute, 119 * time.Minute, 2 * time.Hour, 47*time.Hour + 59*time.Minute, 2 * day, 90*day - 1, -time.Second, -3 * day, -61 * time.Minute} {
		got[d] = left(demoNow.Add(d), demoNow)
	}
	want := map[time.Duration]string{0: "in under a minute", 59 * time.Second: "in under a minute", time.Minute: "in 1 minute", 119 * time.Minute: "in 119 minutes", 2 * time.Hour: "in 2 hours",
		47*time.Hour + 59*time.Minute: "in 47 hours", 2 * day: "in 2 days", 90*day - 1: "in 89 days", -time.Second: "under a minute ago", -3 * day: "3 days ago", -61 * time.Minute: "61 minutes ago"}
	if !maps.Equal(got, want) {
		t.Errorf("%v\nwant %v", got, want)
	}
}
