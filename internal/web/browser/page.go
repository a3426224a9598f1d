package browser

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"
	"time"
)

// Look is how a page is shown.
type Look struct {
	Width, Height int
	Dark          bool
	NoScript      bool
}

// Page is one page that is open.
type Page struct {
	t       testing.TB
	b       *Browser
	target  string
	session string

	mu         sync.Mutex
	complaints []string
	loaded     int
}

// Open opens an empty page, for a test that may be one of several of a browser.
func (b *Browser) Open(t testing.TB, l Look) *Page {
	t.Helper()
	var target struct{ TargetID string }
	decode(t, b.must(t, "", "Target.createTarget", map[string]any{"url": "about:blank"}), &target)
	var session struct{ SessionID string }
	decode(t, b.must(t, "", "Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}), &session)
	p := &Page{t: t, b: b, target: target.TargetID, session: session.SessionID}
	b.mu.Lock()
	b.pages[p.session] = p
	b.mu.Unlock()
	for _, domain := range []string{"Page", "Runtime", "Log", "Network"} {
		p.must(domain+".enable", struct{}{})
	}
	p.Show(l)
	return p
}

// Close closes the page. Those that stay open share six connections to a host.
func (p *Page) Close() {
	p.t.Helper()
	p.b.must(p.t, "", "Target.closeTarget", map[string]any{"targetId": p.target})
}

// Show changes how the page is shown.
func (p *Page) Show(l Look) {
	p.t.Helper()
	scheme := "light"
	if l.Dark {
		scheme = "dark"
	}
	p.must("Emulation.setEmulatedMedia", map[string]any{"features": []map[string]string{{"name": "prefers-color-scheme", "value": scheme}}})
	p.must("Emulation.setDeviceMetricsOverride", map[string]any{"width": l.Width, "height": l.Height, "deviceScaleFactor": 1, "mobile": false})
	p.must("Emulation.setScriptExecutionDisabled", map[string]any{"value": l.NoScript})
}

// Go loads an address and waits until it is there with all that belongs to it.
func (p *Page) Go(url string) {
	p.t.Helper()
	p.mu.Lock()
	before := p.loaded
	p.mu.Unlock()
	var r struct{ ErrorText string }
	decode(p.t, p.must("Page.navigate", map[string]any{"url": url}), &r)
	if r.ErrorText != "" {
		p.t.Fatalf("load %s: %s", url, r.ErrorText)
	}
	p.until("load "+url, func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.loaded > before
	})
}

// Eval returns the value of an expression; promises are waited for. It works without scripts in the page, too.
func (p *Page) Eval(expression string, into any) {
	p.t.Helper()
	var r struct {
		Result           struct{ Value json.RawMessage }
		ExceptionDetails *struct {
			Text      string
			Exception struct{ Description string }
		}
	}
	decode(p.t, p.must("Runtime.evaluate", map[string]any{"expression": expression, "returnByValue": true, "awaitPromise": true}), &r)
	if e := r.ExceptionDetails; e != nil {
		p.t.Fatalf("%.200s: %s %s", expression, e.Text, e.Exception.Description)
	}
	if into != nil {
		decode(p.t, r.Result.Value, into)
	}
}

// Wait waits until an expression is true.
func (p *Page) Wait(expression string) {
	p.t.Helper()
	p.until(expression, func() bool {
		var ok bool
		p.Eval("Boolean("+expression+")", &ok)
		return ok
	})
}

// Press sends a key, such as Tab, as a keyboard does.
func (p *Page) Press(key string, code int) {
	p.t.Helper()
	down := map[string]any{"type": "rawKeyDown", "key": key, "code": key, "windowsVirtualKeyCode": code}
	if key == "Enter" {
		down["type"], down["text"] = "keyDown", "\r"
	}
	p.must("Input.dispatchKeyEvent", down)
	p.must("Input.dispatchKeyEvent", map[string]any{"type": "keyUp", "key": key, "code": key, "windowsVirtualKeyCode": code})
}

// Complaints returns what the page complained of so far: errors and warnings of the console,
// exceptions, violations of its policy, and answers that are errors.
func (p *Page) Complaints() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.complaints)
}

// Screenshot writes what is seen, or with whole everything there is, to a PNG file.
func (p *Page) Screenshot(file string, whole bool) {
	p.t.Helper()
	var r struct{ Data string }
	decode(p.t, p.must("Page.captureScreenshot", map[string]any{"format": "png", "captureBeyondViewport": whole, "optimizeForSpeed": false}), &r)
	data, err := base64.StdEncoding.DecodeString(r.Data)
	if err == nil {
		err = os.WriteFile(file, data, 0o644)
	}
	if err != nil {
		p.t.Fatal(err)
	}
}

// heed keeps what is told of the page.
func (p *Page) heed(m message) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch m.Method {
	case "Page.loadEventFired":
		p.loaded++
	case "Runtime.exceptionThrown", "Log.entryAdded":
		p.complaints = append(p.complaints, string(m.Params))
	case "Runtime.consoleAPICalled":
		var call struct{ Type string }
		if err := json.Unmarshal(m.Params, &call); err != nil || call.Type == "error" || call.Type == "warning" || call.Type == "assert" {
			p.complaints = append(p.complaints, string(m.Params))
		}
	}
}

func (p *Page) must(method string, params any) json.RawMessage {
	p.t.Helper()
	return p.b.must(p.t, p.session, method, params)
}

func (p *Page) until(what string, ok func() bool) {
	p.t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			p.t.Fatalf("waited in vain: %s; complaints: %s", what, fmt.Sprint(p.Complaints()))
		}
	}
}

func decode(t testing.TB, data json.RawMessage, into any) {
	t.Helper()
	if err := json.Unmarshal(data, into); err != nil {
		t.Fatalf("%s: %v", data, err)
	}
}
