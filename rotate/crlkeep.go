package rotate

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/spinecert/spinecert/trust"
)

// crlkeep.go: lists on disk, and those that people carry here.

// memorySpool returns an empty file for a download that is in memory alone.
func memorySpool() (*os.File, error) {
	fd, err := unix.MemfdCreate("spinecert-crl", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	return os.NewFile(uintptr(fd), "crl in memory"), nil
}

// mapped returns the contents of a file of ours without copying them: a list of a
// million entries has 40 MB. Nobody else writes to such a file, which would end the
// process.
func mapped(f *os.File) (data []byte, release func(), err error) {
	info, err := f.Stat()
	if err != nil {
		return nil, nil, err
	}
	size := info.Size()
	if size == 0 {
		return nil, func() {}, nil
	}
	if !info.Mode().IsRegular() || size != int64(int(size)) {
		return nil, nil, errors.New("it is no regular file")
	}
	data, err = syscall.Mmap(int(f.Fd()), 0, int(size), syscall.PROT_READ, syscall.MAP_PRIVATE)
	if err != nil {
		return nil, nil, os.NewSyscallError("mmap", err)
	}
	return data, func() { _ = syscall.Munmap(data) }, nil
}

// keptList is a list that was loaded.
type keptList struct {
	kept KeptCRL
	crl  *trust.CRL
}

// loadKept reads what the store has for a bundle, but for the addresses in have,
// whose lists are in memory. It is a cache: what is damaged or of no CA of the
// bundle is left alone and counts for nothing.
func loadKept(store CRLStore, environment string, bundle *trust.Bundle, have map[string]bool) []keptList {
	if store == nil {
		return nil
	}
	kept, _ := store.ListCRLs(environment) // what is damaged is fetched again
	var out []keptList
	for _, k := range kept {
		if have[k.Address] {
			continue
		}
		f, err := store.OpenCRL(environment, k.Address)
		if err != nil {
			continue
		}
		if crl, err := readList(f, k.Address, bundle); err == nil && (isCarried(k.Address) || fits(crl, k.Address) == nil) {
			out = append(out, keptList{k, crl})
		}
		_ = f.Close()
	}
	return out
}

func isCarried(address string) bool { return strings.HasPrefix(address, CarriedPrefix) }

// takeKept puts loaded lists where fetched ones are. Their state is published by
// the caller.
func (e *Environment) takeKept(lists []keptList, bundle *trust.Bundle, now time.Time) {
	for _, k := range lists {
		l := e.lists[k.kept.Address]
		if l == nil {
			l = &crlList{address: k.kept.Address, origin: CRLOfPeer, since: now}
			if isCarried(l.address) {
				l.origin = CRLOfCarrier
			} else {
				l.bar(e.client.Load())
			}
			e.lists[l.address] = l
		}
		if l.crl != nil && (bundle.Names(l.crl.IssuerCertificate()) || sameList(l.crl, k.crl) && !olderCRL(l.crl, k.crl)) {
			continue // what is in memory is in force
		}
		l.crl, l.kept, l.asked = k.crl, k.kept, true
		if l.origin != CRLOfCarrier {
			// Spread: after a restart not all at once.
			if e.schedule(l, now); k.kept.Fetched.Add(e.refresh()).Before(now) {
				l.next = now
			}
		}
	}
}

// saveList keeps a list on disk. It may take as long as the disk takes. What the disk
// does not take is asked for again in full, until it does.
func (k *Keeper) saveList(ctx context.Context, e *Environment, l *crlList, kept KeptCRL, spool *os.File) {
	e.keeping.Lock()
	err := k.options.CRLs.KeepCRL(e.name, kept, spool)
	e.keeping.Unlock()
	// An error of call says that Run ends: there is nobody to tell.
	_ = k.call(ctx, func() {
		l.saving = false
		if err != nil {
			l.unsaved = true
			k.tell(Event{Kind: EventCRLKept, Environment: e.name, Address: l.address, Reason: ReasonUnwritable, Err: err})
		}
	})
}

// forgetKept removes a list from the disk, in its own time.
func (e *Environment) forgetKept(k *Keeper, address string) {
	store := k.options.CRLs
	if store == nil {
		return
	}
	go func() {
		e.keeping.Lock()
		defer e.keeping.Unlock()
		known := true // it may have come back meanwhile
		if err := k.call(context.Background(), func() { known = e.lists[address] != nil }); err == nil && !known {
			_ = store.DropCRL(e.name, address) // what stays is read at the next start, and ends by itself
		}
	}()
}

// carriedAddress is under which a carried list is kept: by its issuer and
// partition, so that one of the same file name and another partition does not
// replace it, and ending in the file name, which says what a list without
// distribution point covers.
func carriedAddress(crl *trust.CRL, name string) string {
	h := sha256.New()
	writeChunk(h, crl.IssuerCertificate().RawSubjectPublicKeyInfo)
	for _, n := range crl.Scope().RawNames {
		writeChunk(h, n)
	}
	return fmt.Sprintf("%s%x/%s", CarriedPrefix, h.Sum(nil)[:8], filepath.Base(name))
}

// CarryCRL takes a list that was carried here by hand, DER or PEM, as name, which
// is the base name of its file. It is judged like every other: signed by a CA of
// the bundle and not older than the one in force. When it returns nil the list is
// on disk, if there is a CRLStore, and in force. The error is a *Refusal, a
// *trust.CRLError or of the CRLStore.
func (k *Keeper) CarryCRL(ctx context.Context, environment, name string, data []byte, actor any) (CRLStatus, error) {
	var e *Environment
	if err := k.call(ctx, func() { e = k.environments[environment] }); err != nil {
		return CRLStatus{}, err
	}
	if e == nil {
		return CRLStatus{}, fmt.Errorf("there is no environment %q", environment)
	}
	state := e.state.Load()
	if state == nil {
		return CRLStatus{}, noTrust()
	}
	der, err := oneCRL(data, name)
	if err != nil {
		return CRLStatus{}, err
	}
	crl, err := trust.ReadCRL(der, name, state.Bundle().Certificates())
	if err != nil {
		return CRLStatus{}, err
	}
	kept := KeptCRL{Address: carriedAddress(crl, name), Fetched: wall(time.Now()).UTC()}
	if crl, err = trust.ReadCRL(der, kept.Address, state.Bundle().Certificates()); err != nil { // it bears the address from now on
		return CRLStatus{}, err
	}
	// From looking at what is in force to being in force: of two that come at once,
	// the older one must not end on the disk.
	e.carrying.Lock()
	defer e.carrying.Unlock()
	if err := e.refuseCarried(ctx, k, crl); err != nil {
		return CRLStatus{}, err
	}
	if err := k.keepCarried(environment, kept, der); err != nil {
		return CRLStatus{}, err
	}
	var status CRLStatus
	var refused error
	err = k.call(ctx, func() { status, refused = k.carry(e, kept, crl, actor) })
	return status, errors.Join(err, refused)
}

// refuseCarried guards every list in force of the same issuer and partition.
func (e *Environment) refuseCarried(ctx context.Context, k *Keeper, crl *trust.CRL) error {
	var refused error
	err := k.call(ctx, func() {
		for _, have := range e.allCRLs(e.state.Load().Bundle()) {
			l := crlList{address: crl.Origin(), crl: have}
			if sameList(crl, have) || len(crl.Scope().RawNames) == 0 && isCarried(have.Origin()) && have.Origin() == crl.Origin() {
				refused = errors.Join(refused, l.refuse(crl, e.state.Load().Bundle(), time.Now()))
			}
		}
		if refused == nil {
			refused = (&crlList{address: crl.Origin()}).refuse(crl, e.state.Load().Bundle(), time.Now())
		}
	})
	return errors.Join(err, refused)
}

func (k *Keeper) keepCarried(environment string, kept KeptCRL, der []byte) error {
	store := k.options.CRLs
	if store == nil {
		return nil
	}
	spool, err := store.SpoolCRL()
	if err != nil {
		return err
	}
	defer spool.Close()
	if _, err := spool.Write(der); err != nil {
		return err
	}
	return store.KeepCRL(environment, kept, spool)
}

func (k *Keeper) carry(e *Environment, kept KeptCRL, crl *trust.CRL, actor any) (CRLStatus, error) {
	now := time.Now()
	if e.unit.removed || !e.state.Load().Bundle().Names(crl.IssuerCertificate()) {
		return CRLStatus{}, &Refusal{Reason: ReasonRemoved, Err: errors.New("the trust of its environment changed meanwhile"), Advice: "do it again"}
	}
	l := e.lists[kept.Address]
	if l == nil {
		l = &crlList{address: kept.Address, origin: CRLOfCarrier, since: now, asked: true}
		e.lists[kept.Address] = l
	}
	if err := l.refuse(crl, e.state.Load().Bundle(), now); err != nil {
		return CRLStatus{}, err
	}
	same := l.crl != nil && l.crl.Digest() == crl.Digest()
	l.kept, l.tried = kept, wall(now)
	if !same {
		l.crl = crl
		e.publishCRLs(k, now)
		k.tell(Event{Kind: EventCRLFetch, Environment: e.name, Address: l.address, CRL: crl, Result: CRLFetched, Actor: actor})
	}
	e.tellLists()
	return CRLStatus{Address: l.address, Origin: l.origin, CRL: l.crl, Fetched: kept.Fetched, Tried: l.tried}, nil
}
