package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"slices"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	perPeer = 100 // connections of one client identity
	// spareFiles is what a daemon opens besides two ends of each connection.
	spareFiles = 200
	// liveTalkers exchange a little all the time over some of the connections.
	liveTalkers = 64
	liveEvery   = 20 * time.Millisecond
)

// sweeps revokes one peer after the other of a daemon that holds thousands of open
// connections, and notes when the last connection of that peer is cut.
func (t *trial) sweeps(ctx context.Context) error {
	total, err := t.openable()
	if err != nil {
		return err
	}
	peers, err := t.issueMany(total / perPeer)
	if err != nil {
		return err
	}
	behind, stop, err := remoteBackend(ctx)
	if err != nil {
		return err
	}
	defer stop()
	der, err := t.signer.list(smallList)
	if err != nil {
		return err
	}
	list, err := t.lists.write("live.crl", der)
	if err != nil {
		return err
	}
	in, err := t.start(ctx, t.daemon, 1, t.revoking(list), named(peers), func(s *site) { s.Backend, s.Connections = behind, total+liveTalkers })
	if err != nil {
		return err
	}
	defer in.stop()
	conns, err := t.openLive(ctx, in, peers)
	defer closeAll(conns)
	// Thousands that hang must not outlive an interrupted run.
	defer context.AfterFunc(ctx, func() { closeAll(conns) })()
	if err != nil {
		return fmt.Errorf("open %d connections: %w%s", total, err, in.tail())
	}
	return t.sweepAll(ctx, in, list, peers, conns)
}

// openable returns how many connections the limit of open files lets a daemon hold.
func (t *trial) openable() (int, error) {
	var lim syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &lim); err != nil {
		return 0, fmt.Errorf("read limit of open files: %w", err)
	}
	if most := (int(min(lim.Max, 1<<30)) - spareFiles) / 2; most < t.sizes.live {
		n := most / perPeer * perPeer
		t.out.notes = append(t.out.notes, fmt.Sprintf("revocation with %d open connections: the hard limit of open files is %d, so it was done with %d", t.sizes.live, lim.Max, n))
		return n, nil
	}
	return t.sizes.live, nil
}

// openLive opens the connections, perPeer for each of peers in turn. After the first
// of a peer they are resumed: what is judged again later is the same, and it is opened
// in a quarter of the time.
func (t *trial) openLive(ctx context.Context, in *instance, peers []*identity) ([]*tls.Conn, error) {
	configs := make([]*tls.Config, len(peers))
	for i, id := range peers {
		configs[i] = clientConfig(t.authority.root, id)
		configs[i].ClientSessionCache = tls.NewLRUClientSessionCache(1)
	}
	conns := make([]*tls.Conn, len(peers)*perPeer)
	var next atomic.Int64
	err := runClients(ctx, len(conns), func(ctx context.Context, _ int) error {
		i := int(next.Add(1)) - 1
		c, err := open(ctx, in.addr(), configs[i/perPeer])
		if err != nil {
			return err
		}
		conns[i] = c
		return startEcho(c)
	})
	return slices.DeleteFunc(conns, func(c *tls.Conn) bool { return c == nil }), err
}

func (t *trial) sweepAll(ctx context.Context, in *instance, list string, peers []*identity, conns []*tls.Conn) error {
	revoked, others := conns[:t.sizes.sweeps*perPeer], conns[t.sizes.sweeps*perPeer:]
	var talking, silent []*tls.Conn
	for i, c := range others {
		if i%(len(others)/liveTalkers) == 0 && len(talking) < liveTalkers {
			talking = append(talking, c)
		} else {
			silent = append(silent, c)
		}
	}
	var load traffic
	stop := load.begin(ctx, talking, liveEvery, t.visitor(in))
	defer stop()
	var seen windows
	var took []float64
	missed := 0
	for i := range t.sizes.sweeps {
		der, err := t.signer.list(smallList, serials(peers[:i+1])...)
		if err != nil {
			return err
		}
		next, err := t.lists.write("live.crl.new", der)
		if err != nil {
			return err
		}
		w, cut, err := watchCuts(ctx, next, list, revoked[i*perPeer:(i+1)*perPeer], &seen)
		if err != nil {
			return err
		}
		missed += perPeer - cut
		took = append(took, milliseconds(w.to.Sub(w.from)))
	}
	stop()
	wrong, err := t.cutAmong(ctx, silent)
	if err != nil {
		return err
	}
	t.fact(fmt.Sprintf("rename of a list to the last cut: one peer's %d of %d connections", perPeer, len(conns)), median(took), "ms", 1000, 0)
	t.fact(fmt.Sprintf("the same, longest of %d", len(took)), quantile(took, 1), "ms", 1000, 0)
	t.fact(fmt.Sprintf("connections of the revoked not cut within %s", cutLimit), float64(missed), "", 0, 0)
	t.fact("connections of others cut", float64(wrong), "", 0, 0)
	seen.tell(t, "a request", fmt.Sprintf("%d sweeps", len(took)), &load.exchanges, 2)
	t.lostFact(&load, "the sweeps")
	return nil
}

// cutAmong returns how many of conns no longer answer.
func (t *trial) cutAmong(ctx context.Context, conns []*tls.Conn) (int, error) {
	var next, gone atomic.Int64
	err := runClients(ctx, len(conns), func(context.Context, int) error {
		c := conns[next.Add(1)-1]
		if err := ping(c, 1); err != nil {
			gone.Add(1)
		}
		return nil
	})
	return int(gone.Load()), err
}
