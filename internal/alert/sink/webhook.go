package sink

import (
	"context"
	"net/http"

	"github.com/spinecert/spinecert/internal/alert"
	"github.com/spinecert/spinecert/internal/config"
)

// webhook posts each message to an address.
type webhook struct {
	far  endpoint
	body func(m *alert.Message) ([]byte, error) // of a tidied message
}

func newWebhook(c config.Sink, o Options) (*webhook, error) {
	w := &webhook{far: newEndpoint(c, o)}
	switch {
	case c.Template != "":
		t, err := readTemplate(c.Template, o.Version)
		if err != nil {
			return nil, err
		}
		w.body = t.body
	case c.Format == config.FormatTeams:
		w.body = func(m *alert.Message) ([]byte, error) { return teamsBody(m, o.Version) }
	case c.Format == config.FormatSlack:
		w.body = func(m *alert.Message) ([]byte, error) { return slackBody(m, o.Version) }
	default:
		w.body = func(m *alert.Message) ([]byte, error) { return documentOf(m, o.Version) }
	}
	return w, nil
}

// Send posts a message. The header Idempotency-Key has its ID, by which a far side knows what it has already.
func (w *webhook) Send(ctx context.Context, m *alert.Message) error {
	m = tidy(m)
	body, err := w.body(m)
	if err != nil {
		return unwritten("the body", err)
	}
	f, err := w.far.open()
	if err != nil {
		return err
	}
	defer f.close()
	return f.post(ctx, f.url, body, http.Header{"Idempotency-Key": {m.ID}})
}
