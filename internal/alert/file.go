package alert

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
	"time"

	"github.com/spinecert/spinecert/internal/durable"
)

// FileName is the name of the file in the state directory.
const FileName = "alerts.json"

// maxFile bounds what is read: 10,000 alerts are 10 MB.
const maxFile = 256 << 20

const schema = 1

// kept is the form of the file.
type kept struct {
	Schema int                  `json:"schema"`
	Seq    uint64               `json:"seq"`
	Alerts []*record            `json:"alerts"`
	Queues map[string]*queue    `json:"queues"`
	Sinks  map[string]*health   `json:"sinks"`
	Ended  map[string]time.Time `json:"ended"`
}

// marshal returns the book in the form of its file.
func (b *Book) marshal() ([]byte, error) {
	k := kept{Schema: schema, Seq: b.seq, Alerts: make([]*record, 0, len(b.records)), Queues: b.queues, Sinks: b.healths, Ended: b.ended}
	for _, r := range b.records {
		k.Alerts = append(k.Alerts, r)
	}
	return json.Marshal(k)
}

// unmarshal takes in what another process wrote. Nothing is changed on an error.
func (b *Book) unmarshal(data []byte) error {
	var k kept
	if err := json.Unmarshal(data, &k); err != nil {
		return fmt.Errorf("not what was written: %w", err)
	}
	if k.Schema != schema {
		return fmt.Errorf("its schema is %d, not %d", k.Schema, schema)
	}
	records := make(map[string]*record, len(k.Alerts))
	for _, r := range k.Alerts {
		if r == nil || r.Condition.ID == "" {
			return errors.New("an alert without an ID")
		}
		r.carried = true
		records[r.Condition.ID] = r
	}
	for name, q := range k.Queues {
		if q == nil || q.Pending == nil {
			k.Queues[name] = &queue{Pending: map[string]*pending{}}
			continue
		}
		for id, p := range q.Pending {
			if p == nil || p.Condition.ID != id {
				return errors.New("a notice without its alert")
			}
			if p.Event == Resolved {
				q.over++
			}
		}
	}
	b.records, b.queues, b.seq = records, filled(k.Queues), k.Seq
	b.healths, b.ended = filled(k.Sinks), filled(k.Ended)
	for name, h := range b.healths {
		if h == nil {
			delete(b.healths, name)
		}
	}
	return nil
}

// filled makes a map where there is none.
func filled[V any](m map[string]V) map[string]V {
	if m == nil {
		return map[string]V{}
	}
	return m
}

// adopt takes over what another book knows.
func (b *Book) adopt(read *Book) {
	b.records, b.queues, b.healths, b.ended, b.seq = read.records, read.queues, read.healths, read.ended, read.seq
}

// Load takes in what is in the file. That there is none is no error. One that cannot be
// read or understood is set aside under another name, and the error says so: everything that
// is wrong is told anew then.
func (b *Book) Load(path string) error {
	err := b.load(path)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	aside := path + ".bad"
	if rerr := os.Rename(path, aside); rerr != nil {
		return fmt.Errorf("read alerts %q: %w; it could not be set aside: %w", path, err, rerr)
	}
	return fmt.Errorf("read alerts %q: %w; it is %q now, and everything that is wrong is told anew", path, err, aside)
}

func (b *Book) load(path string) error {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a pipe would keep it for ever
	if err != nil {
		return err
	}
	defer f.Close()
	data, err := readAll(f)
	if err != nil {
		return err
	}
	return b.unmarshal(data)
}

func readAll(f *os.File) ([]byte, error) {
	st, err := f.Stat()
	switch {
	case err != nil:
		return nil, err
	case !st.Mode().IsRegular():
		return nil, errors.New("not a regular file")
	case st.Size() > maxFile:
		return nil, fmt.Errorf("larger than %d bytes", maxFile)
	}
	return io.ReadAll(io.LimitReader(f, maxFile))
}

// Save writes the book, whole or not at all, so that it outlives a crash.
func (b *Book) Save(path string) error {
	data, err := b.marshal()
	if err != nil {
		return fmt.Errorf("write alerts %q: %w", path, err)
	}
	if err := durable.Replace(path, data, 0o600); err != nil {
		return fmt.Errorf("write alerts %q: %w", path, err)
	}
	return nil
}
