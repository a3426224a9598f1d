package sink

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"log"
	"strings"
	"testing"

	"github.com/spinecert/spinecert/internal/alert"
	"github.com/spinecert/spinecert/internal/config"
)

var quiet = log.New(io.Discard, "", 0)

func as[T any](err error, target *T) bool { return errors.As(err, target) }

// each calls f for each object within v.
func each(v any, f func(map[string]any)) {
	switch v := v.(type) {
	case map[string]any:
		f(v)
		for _, inner := range v {
			each(inner, f)
		}
	case []any:
		for _, inner := range v {
			each(inner, f)
		}
	}
}

func post(t *testing.T, c config.Sink, m *alert.Message) any {
	t.Helper()
	h := startHook(t, nil, nil)
	c.Type, c.URL = config.SinkWebhook, h.URL
	if err := send(t, make1(t, c), m); err != nil {
		t.Fatal(err)
	}
	body, _ := h.last(t)
	var v any
	if err := json.Unmarshal([]byte(body), &v); err != nil {
		t.Fatalf("%v\n%s", err, body)
	}
	return v
}

func TestChats(t *testing.T) {
	for _, format := range []string{config.FormatTeams, config.FormatSlack} {
		v := post(t, config.Sink{Format: format}, one())
		var b bytes.Buffer
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false)
		e.SetIndent("", "  ")
		if err := e.Encode(v); err != nil {
			t.Fatal(err)
		}
		golden(t, format+".json", b.String())
	}
}

// Names from certificates are read as text by the far side: no element that knows Markdown, mrkdwn or HTML has them.
func TestNastyChats(t *testing.T) {
	for _, m := range []*alert.Message{wicked(), many(60), one()} {
		each(post(t, config.Sink{Format: config.FormatTeams}, m), func(o map[string]any) {
			if text, ok := o["text"].(string); ok {
				harmless(t, "the card", text)
				if o["type"] != "TextRun" {
					t.Errorf("%v reads Markdown", o["type"])
				}
			}
		})
		var blocks int
		v := post(t, config.Sink{Format: config.FormatSlack}, m)
		each(v, func(o map[string]any) {
			text, ok := o["text"].(string)
			switch {
			case ok && o["type"] == nil: // the line for lock screens
				if strings.ContainsAny(text, "<>") {
					t.Errorf("mrkdwn: %s", text)
				}
			case ok && (o["type"] != "plain_text" || len([]rune(text)) > 3000):
				t.Errorf("%v", o)
			}
			harmless(t, "the message", text)
			if list, ok := o["blocks"].([]any); ok {
				blocks = len(list)
			}
		})
		if blocks == 0 || blocks > 50 {
			t.Errorf("%d blocks", blocks)
		}
	}
}

// What does not fit is said to be missing.
func TestChatsSayWhatIsMissing(t *testing.T) {
	for _, format := range []string{config.FormatTeams, config.FormatSlack} {
		found := false
		heads := 0
		each(post(t, config.Sink{Format: format}, many(60)), func(o map[string]any) {
			text, _ := o["text"].(string)
			found = found || strings.Contains(text, "There is no room for")
			if strings.HasPrefix(text, "CRITICAL pcs-") {
				heads++
			}
		})
		if !found || heads < 10 {
			t.Errorf("%s: says so: %v, alerts: %d", format, found, heads)
		}
	}
}
