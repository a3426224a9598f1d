package sandbox

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
)

// environment is the one of the sandbox's configuration.
const environment = "sandbox"

// apiError is a refusal of the admin API.
type apiError struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

func (e *apiError) Error() string { return e.Code + ": " + e.Message }

// refusedBy tells whether the daemon examined and refused.
func refusedBy(err error) bool {
	e, ok := errors.AsType[*apiError](err)
	return ok && e.Code == "refused"
}

// post asks the daemon to do something. The answer is read into out also when it
// comes with an *apiError.
func (d *daemon) post(ctx context.Context, path string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("ask daemon: %w", err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://spinecertd"+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := d.client.Do(request)
	if err != nil {
		return fmt.Errorf("ask daemon: %w", err)
	}
	defer response.Body.Close()
	var envelope struct {
		Result json.RawMessage `json:"result"`
		Error  *apiError       `json:"error"`
	}
	if err := json.NewDecoder(io.LimitReader(response.Body, 1<<20)).Decode(&envelope); err != nil {
		return fmt.Errorf("read answer of the daemon: %w", err)
	}
	if len(envelope.Result) > 0 && out != nil {
		if err := json.Unmarshal(envelope.Result, out); err != nil {
			return fmt.Errorf("read answer of the daemon: %w", err)
		}
	}
	if envelope.Error != nil {
		return envelope.Error
	}
	return nil
}

// trustFile is a file as the API takes it.
type trustFile struct {
	Name string `json:"name"`
	Data []byte `json:"data"`
}

type trustCA struct {
	SHA256 string `json:"sha256"`
}

func sumsOf(cas []trustCA) []string {
	var out []string
	for _, ca := range cas {
		out = append(out, ca.SHA256)
	}
	return out
}

// trustDiff is what other trust files would change.
type trustDiff struct {
	Digest  string    `json:"bundle_sha256"`
	Added   []trustCA `json:"added"`
	Removed []trustCA `json:"removed"`
	Shrinks bool      `json:"shrinks"`
	Breaks  []string  `json:"breaks"`
}

// diff asks what files would change in the place of the trust file; none asks for
// what waits to be accepted.
func (d *daemon) diff(ctx context.Context, files ...trustFile) (trustDiff, error) {
	var out trustDiff
	return out, d.post(ctx, "/v1/trust/diff", map[string]any{"environment": environment, "files": files}, &out)
}

// trustAdded is what was, or would be, added.
type trustAdded struct {
	Added []trustCA `json:"added"`
	Done  bool      `json:"done"`
}

// add adds the CAs of a file, or asks what would be added without a fingerprint.
func (d *daemon) add(ctx context.Context, file trustFile, sums ...string) (trustAdded, error) {
	var out trustAdded
	return out, d.post(ctx, "/v1/trust/add", map[string]any{"environment": environment, "files": []trustFile{file}, "sha256": sums}, &out)
}

// accept takes the trust files as they are, if that is the bundle with this digest.
func (d *daemon) accept(ctx context.Context, digest string) error {
	return d.post(ctx, "/v1/trust/accept", map[string]any{"environment": environment, "bundle_sha256": digest}, nil)
}

// reload has the daemon read its configuration again.
func (d *daemon) reload(ctx context.Context) error {
	return d.post(ctx, "/v1/reload", struct{}{}, nil)
}
