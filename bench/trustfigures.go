package main

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/trust"
)

// trustInput is what measureTrust is given, by file name.
type trustInput struct {
	Bundle, RootList, List, Chain string
	Entries                       int
	Peer                          string
	Rounds                        int
}

// trustFigures are medians over the rounds; bytes and nanoseconds.
type trustFigures struct {
	Load                  []float64 // seconds
	Heap, Peak            float64
	Hit, Miss, Read       []float64
	LookupAllocs          float64
	Remembered, Fresh     []float64
	Review                []float64
	RememberedAllocations float64
}

const (
	lookupSerials = 1 << 16 // spread over the whole list, too many for the nearest caches
	verdictTurns  = 20_000
	freshTurns    = 300
)

// measureTrust measures package trust in this process, which does nothing else.
func measureTrust(in trustInput) (trustFigures, error) {
	var out trustFigures
	bundle, err := readBundle(in.Bundle)
	if err != nil {
		return out, err
	}
	// Memory first, as loads leave free memory behind that the next would use.
	if err := out.memory(in.List, bundle); err != nil {
		return out, err
	}
	var list *trust.CRL
	for range max(in.Rounds, 1) {
		if list, err = out.load(in.List, bundle); err != nil {
			return out, err
		}
	}
	if list.Len() < in.Entries {
		return out, fmt.Errorf("read list: %d entries, not %d", list.Len(), in.Entries)
	}
	if err := out.lookups(list, in); err != nil {
		return out, err
	}
	return out, out.verdicts(list, bundle, in)
}

func readBundle(path string) (*trust.Bundle, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read bundle: %w", err)
	}
	return trust.ParseBundle(trust.Source{Name: path, Data: data})
}

// mapFile maps a file. With touched all of it is resident at once.
func mapFile(path string, touched bool) (data []byte, unmap func(), err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, nil, err
	}
	flags := syscall.MAP_PRIVATE
	if touched {
		flags |= syscall.MAP_POPULATE
	}
	if data, err = syscall.Mmap(int(f.Fd()), 0, int(info.Size()), syscall.PROT_READ, flags); err != nil {
		return nil, nil, fmt.Errorf("map %q: %w", path, err)
	}
	return data, func() { _ = syscall.Munmap(data) }, nil
}

// load notes how long one ReadCRL takes, from a mapping that nobody has touched.
func (t *trustFigures) load(path string, bundle *trust.Bundle) (*trust.CRL, error) {
	data, unmap, err := mapFile(path, false)
	if err != nil {
		return nil, err
	}
	defer unmap()
	runtime.GC()
	begun := time.Now()
	list, err := trust.ReadCRL(data, path, bundle.Certificates())
	t.Load = append(t.Load, time.Since(begun).Seconds())
	return list, err
}

// memory notes what one ReadCRL adds to the heap, and to resident memory at its
// highest. The file is mapped and resident before, so that it is in neither.
func (t *trustFigures) memory(path string, bundle *trust.Bundle) error {
	data, unmap, err := mapFile(path, true)
	if err != nil {
		return err
	}
	defer unmap()
	debug.FreeOSMemory()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	// The highest value so far is forgotten (proc(5)).
	if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil {
		return fmt.Errorf("reset peak of memory: %w", err)
	}
	low, err := statusBytes(os.Getpid(), "VmRSS")
	if err != nil {
		return err
	}
	list, err := trust.ReadCRL(data, path, bundle.Certificates())
	if err != nil {
		return err
	}
	high, err := statusBytes(os.Getpid(), "VmHWM")
	if err != nil {
		return err
	}
	runtime.GC()
	runtime.GC() // what the first one's sweep found
	runtime.ReadMemStats(&after)
	t.Heap, t.Peak = float64(after.HeapAlloc)-float64(before.HeapAlloc), float64(high-low)
	runtime.KeepAlive(list)
	return nil
}

// statusBytes returns a value of /proc/PID/status that is given in kB.
func statusBytes(pid int, key string) (int64, error) {
	text := strings.TrimSuffix(valueIn(fmt.Sprintf("/proc/%d/status", pid), key, ":"), " kB")
	n, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read %s of process %d: %w", key, pid, err)
	}
	return n * 1024, nil
}

func (t *trustFigures) lookups(list *trust.CRL, in trustInput) error {
	stride := max(in.Entries/lookupSerials, 1)
	memory := make([]byte, bytesPerEntry*in.Entries)
	for i := range memory {
		memory[i] = byte(i)
	}
	var on, off serialRow
	for i := range lookupSerials {
		on.add(testpki.LargeCRLSerial(i * stride % in.Entries))
		off.add(testpki.LargeCRLSerial(in.Entries + i))
	}
	found := 0
	look := func(row *serialRow) func(int) {
		return func(i int) {
			if _, ok := list.Lookup(row.at(i % lookupSerials)); ok {
				found++
			}
		}
	}
	for range in.Rounds {
		t.Hit = append(t.Hit, each(4*lookupSerials, look(&on)))
		t.Miss = append(t.Miss, each(4*lookupSerials, look(&off)))
		t.Read = append(t.Read, each(4*lookupSerials, randomRead(memory)))
	}
	if found != in.Rounds*4*lookupSerials {
		return fmt.Errorf("look up serials: %d found, not %d", found, in.Rounds*4*lookupSerials)
	}
	t.LookupAllocs = testing.AllocsPerRun(1000, func() { list.Lookup(on.at(7)) })
	return nil
}

// bytesPerEntry is about what an entry of the list takes in memory.
const bytesPerEntry = 20

// randomRead returns a function that reads a byte anywhere in memory: what a lookup
// would cost on this machine if it were nothing but one miss of the cache.
func randomRead(memory []byte) func(int) {
	at := uint64(1)
	return func(int) {
		// The next place depends on what was read, so that no two reads overlap.
		at = at*6364136223846793005 + 1442695040888963407 + uint64(memory[(at>>33)%uint64(len(memory))])
	}
}

// serialRow holds serial numbers of one length side by side, so that reading them
// misses no cache: who looks one up has it at hand.
type serialRow struct {
	words []big.Word
	width int
	one   big.Int
}

func (r *serialRow) add(serial *big.Int) {
	r.width = len(serial.Bits())
	r.words = append(r.words, serial.Bits()...)
}

func (r *serialRow) at(i int) *big.Int { return r.one.SetBits(r.words[i*r.width : (i+1)*r.width]) }

// verdicts notes what a judgement costs with the list in force.
func (t *trustFigures) verdicts(list *trust.CRL, bundle *trust.Bundle, in trustInput) error {
	der, err := os.ReadFile(in.RootList)
	if err != nil {
		return fmt.Errorf("read list: %w", err)
	}
	root, err := trust.ReadCRL(der, in.RootList, bundle.Certificates())
	if err != nil {
		return err
	}
	chain, err := readChain(in.Chain)
	if err != nil {
		return err
	}
	state, err := trust.NewState(trust.StateConfig{
		Environment: "bench", Profile: trust.Private, Bundle: bundle, CRLs: []*trust.CRL{root, list}, Revocation: trust.Require,
	})
	if err != nil {
		return err
	}
	request := trust.Request{Purpose: trust.ClientAuth, Peers: trust.Names(in.Peer), Now: time.Now()}
	verdict, err := state.Verify(chain, request)
	if err != nil {
		return err
	}
	if verdict.Revocation != trust.RevocationGood {
		return fmt.Errorf("revocation is %q, not good", verdict.Revocation)
	}
	judge := func(int) { _, err = state.Verify(chain, request) }
	for range in.Rounds {
		t.Fresh = append(t.Fresh, each(freshTurns, judge))
	}
	state.Remember(chain, request, verdict)
	for range in.Rounds {
		t.Remembered = append(t.Remembered, each(verdictTurns, judge))
		t.Review = append(t.Review, each(verdictTurns, func(int) { _, err = state.Review(chain, verdict, request, false) }))
	}
	t.RememberedAllocations = testing.AllocsPerRun(1000, func() { judge(0) })
	return err
}

func readChain(path string) ([]*x509.Certificate, error) {
	rest, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read chain: %w", err)
	}
	var out []*x509.Certificate
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return out, nil
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("read chain %q: %w", path, err)
		}
		out = append(out, c)
	}
}

// each returns the nanoseconds of one call, in time of the processor: what others do
// on a busy machine meanwhile is not in it.
func each(n int, call func(i int)) float64 {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	begun := threadTime()
	for i := range n {
		call(i)
	}
	return float64(threadTime()-begun) / float64(n)
}

// threadTime returns the CPU time of this thread, in nanoseconds.
func threadTime() int64 {
	const thread = 1 // RUSAGE_THREAD (getrusage(2))
	var u syscall.Rusage
	if err := syscall.Getrusage(thread, &u); err != nil {
		panic(err) // the arguments are right
	}
	return u.Utime.Nano() + u.Stime.Nano()
}
