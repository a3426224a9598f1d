package web

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/spinecert/spinecert/internal/web/browser"
)

// TestInABrowser is the page as Chromium has it.
func TestInABrowser(t *testing.T) {
	b := browser.Start(t)
	t.Run("renews itself", func(t *testing.T) {
		c := newChanging(t, 0)
		c.start(t)
		page := b.Open(t, browser.Look{Width: 1000, Height: 500})
		page.Go(c.server.URL)
		page.Wait(`document.getElementById("live").textContent === "live"`)
		// What a user is doing: he has typed something, opened a timeline and scrolled down.
		page.Eval(`(() => { const q = document.getElementById("q"); q.focus(); q.value = "half a w"; q.setSelectionRange(2, 4);
			document.getElementById("generations-pds").open = true; window.scrollTo(0, 300); window.mark = 1; })()`, nil)
		c.change("renewed.nhs.uk")
		page.Wait(`document.querySelector("main").textContent.includes("renewed.nhs.uk")`)
		var kept struct {
			Focus, Value     string
			From, To, Scroll int
			Open, Same       bool
		}
		page.Eval(`(() => { const q = document.getElementById("q"); return {focus: document.activeElement.id, value: q.value, from: q.selectionStart, to: q.selectionEnd,
			scroll: window.scrollY, open: document.getElementById("generations-pds").open, same: window.mark === 1}; })()`, &kept)
		if kept.Focus != "q" || kept.Value != "half a w" || kept.From != 2 || kept.To != 4 || kept.Scroll != 300 || !kept.Open || !kept.Same {
			t.Errorf("%+v", kept)
		}
		c.change("again.nhs.uk")
		page.Wait(`document.querySelector("main").textContent.includes("again.nhs.uk")`)
		quiet(t, page)
	})
	t.Run("needs no script", func(t *testing.T) {
		c := newChanging(t, 0)
		c.start(t)
		page := b.Open(t, browser.Look{Width: 390, Height: 800, NoScript: true})
		page.Go(c.server.URL)
		var live, text string
		page.Eval(`document.getElementById("live").textContent`, &live)
		page.Eval(`document.querySelector("main").textContent`, &text)
		if live != "" || !strings.Contains(text, "spinecert csr show --mail") {
			t.Errorf("%q %.100q", live, text)
		}
		page.Eval(`document.getElementById("q").value = "gp-connect"`, nil)
		page.Eval(`document.getElementById("q").focus()`, nil)
		page.Press("Enter", 13)
		page.Wait(`location.search === "?q=gp-connect" && document.readyState === "complete"`)
		var slots int
		page.Eval(`document.querySelectorAll(".slots tbody tr").length`, &slots)
		if slots != 1 {
			t.Errorf("%d slots are found", slots)
		}
		// Nothing is wider than the window.
		var over int
		page.Eval(`document.documentElement.scrollWidth - document.documentElement.clientWidth`, &over)
		if over > 0 {
			t.Errorf("the page is %d pixels wider than the window", over)
		}
		quiet(t, page)
	})
	t.Run("holds its policy", func(t *testing.T) {
		c := newChanging(t, 0)
		v := demo(3)
		fill(reflect.ValueOf(v).Elem(), func(_, was string) string { return was + hostile })
		c.view.Store(v)
		c.start(t)
		page := b.Open(t, browser.Look{Width: 1200, Height: 800})
		page.Go(c.server.URL)
		page.Wait(`document.getElementById("live").textContent === "live"`)
		var scripts int
		page.Eval(`document.querySelectorAll("script:not([src^='/assets/page.js?v=']), [onerror], img[src=x], iframe, object, style").length`, &scripts)
		if scripts != 0 {
			t.Errorf("%d elements that nobody drew", scripts)
		}
		quiet(t, page)
		// What an injection would try, if there were one.
		var stopped []string
		page.Eval(`new Promise((done) => {
			const stopped = [];
			document.addEventListener("securitypolicyviolation", (e) => { stopped.push(e.effectiveDirective); if (stopped.length === 4) { done(stopped.sort()); } });
			const s = document.createElement("style"); s.textContent = "body { color: red }"; document.head.append(s);
			const i = new Image(); i.src = "https://evil.example/x.png";
			const f = document.createElement("iframe"); f.src = "https://evil.example/"; document.body.append(f);
			fetch("https://evil.example/").catch(() => {});
		})`, &stopped)
		if got := fmt.Sprint(stopped); got != "[connect-src frame-src img-src style-src-elem]" {
			t.Errorf("stopped: %s", got)
		}
		var refused bool
		page.Eval(`(() => { try { document.body.innerHTML += "<b>x</b>"; return false; } catch (e) { return e instanceof TypeError; } })()`, &refused)
		if !refused {
			t.Error("a script may make markup of a text")
		}
	})
	t.Run("by keyboard", func(t *testing.T) {
		c := newChanging(t, 0)
		c.start(t)
		page := b.Open(t, browser.Look{Width: 1200, Height: 800})
		page.Go(c.server.URL)
		var seen []string
		for range 12 {
			page.Press("Tab", 9)
			var at string
			page.Eval(`document.activeElement.className + "#" + document.activeElement.id`, &at)
			seen = append(seen, at)
		}
		if want := "[skip# #q #find #to-problems #to-slots #to-services #to-tunnels #to-trust #to-requests #to-refusals #to-sinks"; !strings.HasPrefix(fmt.Sprint(seen), want) {
			t.Errorf("the keyboard goes %v", seen)
		}
	})
}

// quiet fails if a page has complained.
func quiet(t *testing.T, page *browser.Page) {
	t.Helper()
	if c := page.Complaints(); len(c) > 0 {
		t.Errorf("the page complains: %v", c)
	}
}

// TestAccessible has axe-core look at the page. SPINECERT_AXE names its axe.min.js, which is no part of this repository:
// npm install axe-core.
func TestAccessible(t *testing.T) {
	file := os.Getenv("SPINECERT_AXE")
	if file == "" {
		t.Skip("SPINECERT_AXE does not name the axe.min.js of axe-core")
	}
	axe, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	b := browser.Start(t)
	for _, n := range []int{1, 20} {
		c := newChanging(t, 0)
		c.view.Store(demo(n))
		c.start(t)
		for _, look := range []browser.Look{{Width: 1400, Height: 900}, {Width: 390, Height: 900}, {Width: 1400, Height: 900, Dark: true}, {Width: 390, Height: 900, Dark: true}} {
			page := b.Open(t, look)
			page.Go(c.server.URL)
			page.Wait(`document.getElementById("live").textContent === "live"`)
			page.Eval(string(axe)+";0", nil)
			var found []struct {
				ID, Impact, Help string
				Nodes            []struct{ HTML, FailureSummary string }
			}
			page.Eval(`axe.run(document, {resultTypes: ["violations"]}).then((r) => r.violations)`, &found)
			for _, f := range found {
				t.Errorf("%d slots, %+v: %s (%s): %s, %d times, such as %.300s: %s", n, look, f.ID, f.Impact, f.Help, len(f.Nodes), f.Nodes[0].HTML, f.Nodes[0].FailureSummary)
			}
		}
	}
}

// TestScreenshots writes pictures of the page to the directory SPINECERT_SCREENSHOTS.
func TestScreenshots(t *testing.T) {
	dir := os.Getenv("SPINECERT_SCREENSHOTS")
	if dir == "" {
		t.Skip("SPINECERT_SCREENSHOTS names no directory")
	}
	b := browser.Start(t)
	for _, n := range []int{1, 20, 1000} {
		c := newChanging(t, 0)
		c.view.Store(demo(n))
		c.start(t)
		for _, width := range []int{390, 1400} {
			for _, scheme := range []string{"light", "dark"} {
				page := b.Open(t, browser.Look{Width: width, Height: 900, Dark: scheme == "dark"})
				if page.Go(c.server.URL); n == 1000 {
					page.Eval(`document.getElementById("slots").scrollIntoView()`, nil)
				}
				page.Wait(`document.getElementById("live").textContent === "live"`)
				page.Screenshot(filepath.Join(dir, fmt.Sprintf("%d-%d-%s.png", n, width, scheme)), n < 1000)
				quiet(t, page)
				page.Close()
			}
		}
	}
}
