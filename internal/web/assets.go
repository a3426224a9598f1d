package web

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"net/http"
	"strings"
	"time"
)

//go:embed assets/page.css
var css []byte

//go:embed assets/page.js
var script []byte

//go:embed assets/icon.svg
var icon []byte

// asset is a file of the page. Its address has a digest of what is in it, so that a browser
// never shows a page with the style of another version, and need not ask again.
type asset struct {
	path, kind, tag string
	plain, packed   []byte
}

func newAsset(path, kind string, content []byte) *asset {
	sum := sha256.Sum256(content)
	var packed bytes.Buffer
	w, _ := gzip.NewWriterLevel(&packed, gzip.BestCompression) // the level is one that there is
	_, _ = w.Write(content)                                    // a buffer takes all
	_ = w.Close()
	return &asset{path: path, kind: kind, tag: hex.EncodeToString(sum[:8]), plain: content, packed: packed.Bytes()}
}

// url is where a page asks for it.
func (a *asset) url() string { return a.path + "?v=" + a.tag }

// ServeHTTP answers with the file, packed where that is understood.
func (a *asset) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	head := w.Header()
	head.Set("Content-Type", a.kind)
	head.Set("Vary", "Accept-Encoding")
	head.Set("Cache-Control", "no-cache") // by a plain address: ask each time
	if r.URL.RawQuery == "v="+a.tag {
		head.Set("Cache-Control", "max-age=31536000, immutable")
	}
	body, tag := a.plain, `"`+a.tag+`"`
	if acceptsGzip(r) {
		body, tag = a.packed, `"`+a.tag+`-z"`
		head.Set("Content-Encoding", "gzip")
	}
	head.Set("ETag", tag)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
}

// acceptsGzip reports whether the answer may be packed.
func acceptsGzip(r *http.Request) bool {
	for part := range strings.SplitSeq(r.Header.Get("Accept-Encoding"), ",") {
		coding, q, _ := strings.Cut(strings.TrimSpace(part), ";")
		if strings.EqualFold(strings.TrimSpace(coding), "gzip") {
			q = strings.ReplaceAll(q, " ", "")
			return !strings.HasPrefix(q, "q=0") || strings.Trim(q[3:], ".0") != ""
		}
	}
	return false
}
