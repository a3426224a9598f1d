package tunnel

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// The benchmarks run the proxy in a process of its own, so that its CPU and
// memory are not mixed with those of its peers. "naive" is what one writes
// first: io.Copy both ways.
const (
	proxyEnv   = "SPINECERT_TEST_PROXY"
	backendEnv = "SPINECERT_TEST_BACKEND"
)

// proxy serves until its standard input ends.
func proxy(kind string) int {
	tb := &mainTB{}
	forward := fixedAddr(os.Getenv(backendEnv))
	if kind == "naive" {
		config := newSpine(tb).serverConfig(tls.VersionTLS12)
		config.VerifyConnection = nil
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			tb.Fatal(err)
		}
		fmt.Println(ln.Addr())
		go naive(ln, config, forward.String())
	} else {
		s := start(tb, Inbound, tls.VersionTLS12, forward, func(c *Config) {
			config := c.Endpoint.(*fakeEndpoint).config.Load().Clone()
			config.VerifyConnection = nil
			c.Endpoint.(*fakeEndpoint).config.Store(config)
			c.Connections = 10000
		})
		s.observer = Observer{}
		s.gate.SetLimits(Limits{PerSource: 10000})
		fmt.Println(s.Addrs()[0])
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
	return 0
}

func naive(ln net.Listener, config *tls.Config, forward string) {
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		go func() {
			near := tls.Server(c, config)
			defer near.Close()
			if near.Handshake() != nil {
				return
			}
			far, err := net.Dial("tcp", forward)
			if err != nil {
				return
			}
			defer far.Close()
			go func() {
				_, _ = io.Copy(far, near)
				_ = far.(*net.TCPConn).CloseWrite()
			}()
			_, _ = io.Copy(near, far)
			_ = near.CloseWrite()
		}()
	}
}

// remote is a proxy in another process.
type remote struct {
	address string
	pid     int
	client  *tls.Config
}

func startRemote(b *testing.B, kind string, backend net.Addr) *remote {
	b.Helper()
	child := exec.CommandContext(context.WithoutCancel(b.Context()), os.Args[0]) // ends with its input
	child.Env = append(os.Environ(), proxyEnv+"="+kind, backendEnv+"="+backend.String())
	child.Stderr = os.Stderr
	in, err1 := child.StdinPipe()
	out, err2 := child.StdoutPipe()
	if err1 != nil || err2 != nil {
		b.Fatal(err1, err2)
	}
	if err := child.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = in.Close()
		_ = child.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	client := newSpine(b).clientConfig(tls.VersionTLS12)
	client.VerifyConnection = nil
	return &remote{strings.TrimSpace(line), child.Process.Pid, client}
}

func (r *remote) dial(b *testing.B) *tls.Conn {
	b.Helper()
	c, err := tls.Dial("tcp", r.address, r.client)
	if err != nil {
		b.Fatal(err)
	}
	return c
}

// cpu returns the CPU time the process has used, from the scheduler.
func (r *remote) cpu(b *testing.B) time.Duration {
	b.Helper()
	threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", r.pid))
	if err != nil {
		b.Fatal(err)
	}
	var total time.Duration
	for _, thread := range threads {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/schedstat", r.pid, thread.Name()))
		if err != nil {
			b.Fatal(err)
		}
		ns, _ := strconv.ParseInt(strings.Fields(string(stat))[0], 10, 64)
		total += time.Duration(ns)
	}
	return total
}

// resident returns the resident memory of the process in bytes.
func (r *remote) resident(b *testing.B) int {
	b.Helper()
	statm, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", r.pid))
	if err != nil {
		b.Fatal(err)
	}
	pages, _ := strconv.Atoi(strings.Fields(string(statm))[1])
	return pages * os.Getpagesize()
}

func eachKind(b *testing.B, run func(b *testing.B, kind string)) {
	for _, kind := range []string{"tunnel", "naive"} {
		b.Run(kind, func(b *testing.B) { run(b, kind) })
	}
}

const bulk = 64 << 20

// BenchmarkUpload moves 64 MiB from the TLS peer per operation.
func BenchmarkUpload(b *testing.B) {
	eachKind(b, func(b *testing.B, kind string) {
		back := newBackend(b, "tcp", nil, func(c net.Conn) {
			buf := make([]byte, 1<<18)
			n, _ := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{c}, buf)
			fmt.Fprintln(c, n)
		})
		r := startRemote(b, kind, back.Addr())
		chunk := make([]byte, 1<<20)
		run := func() {
			c := r.dial(b)
			defer c.Close()
			for range bulk / len(chunk) {
				if _, err := c.Write(chunk); err != nil {
					b.Fatal(err)
				}
			}
			_ = c.CloseWrite()
			_, _ = io.ReadAll(c)
		}
		r.perGB(b, run)
	})
}

// BenchmarkDownload moves 64 MiB to the TLS peer per operation.
func BenchmarkDownload(b *testing.B) {
	eachKind(b, func(b *testing.B, kind string) {
		back := newBackend(b, "tcp", nil, func(c net.Conn) {
			chunk := make([]byte, 1<<18)
			for range bulk / len(chunk) {
				if _, err := c.Write(chunk); err != nil {
					return
				}
			}
		})
		r := startRemote(b, kind, back.Addr())
		buf := make([]byte, 1<<18)
		r.perGB(b, func() {
			c := r.dial(b)
			defer c.Close()
			n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{c}, buf)
			if n != bulk || err != nil {
				b.Fatal(n, err)
			}
		})
	})
}

func (r *remote) perGB(b *testing.B, run func()) {
	run()
	before := r.cpu(b)
	for b.Loop() {
		run()
	}
	b.ReportMetric(float64(r.cpu(b)-before)/float64(b.N)*(1<<30)/bulk/1e9, "cpu-s/GiB")
}

// BenchmarkHandshake makes a connection with a full handshake and one echo.
func BenchmarkHandshake(b *testing.B) {
	eachKind(b, func(b *testing.B, kind string) {
		back := newBackend(b, "tcp", nil, echo)
		r := startRemote(b, kind, back.Addr())
		for _, resumed := range []bool{false, true} {
			b.Run(fmt.Sprintf("resumed=%v", resumed), func(b *testing.B) {
				if resumed {
					r.client.ClientSessionCache = tls.NewLRUClientSessionCache(1)
				}
				run := func() {
					c := r.dial(b)
					exchange(b, c, "hello")
					_ = c.Close()
				}
				run()
				before := r.cpu(b)
				for b.Loop() {
					run()
				}
				b.ReportMetric(float64(r.cpu(b)-before)/float64(b.N)/1e6, "cpu-ms/op")
			})
		}
	})
}

// BenchmarkEcho sends small messages over one connection.
func BenchmarkEcho(b *testing.B) {
	eachKind(b, func(b *testing.B, kind string) {
		back := newBackend(b, "tcp", nil, echo)
		r := startRemote(b, kind, back.Addr())
		c := r.dial(b)
		defer c.Close()
		message := strings.Repeat("x", 500)
		exchange(b, c, message)
		before := r.cpu(b)
		for b.Loop() {
			exchange(b, c, message)
		}
		b.ReportMetric(float64(r.cpu(b)-before)/float64(b.N)/1e3, "cpu-us/op")
	})
}

// BenchmarkIdle holds 2,000 connections after traffic.
func BenchmarkIdle(b *testing.B) {
	const connections = 2000
	for _, size := range []int{500, 256 << 10} {
		b.Run(fmt.Sprintf("after=%d", size), func(b *testing.B) {
			eachKind(b, func(b *testing.B, kind string) {
				back := newBackend(b, "tcp", nil, echo)
				r := startRemote(b, kind, back.Addr())
				open := make(chan net.Conn, connections)
				var wg sync.WaitGroup
				b.ResetTimer()
				before := r.resident(b)
				for worker := range 16 {
					wg.Go(func() {
						for i := worker; i < connections; i += 16 {
							c, err := tls.Dial("tcp", r.address, r.client)
							if err != nil {
								b.Error(err)
								return
							}
							message := make([]byte, size)
							go func() { _, _ = c.Write(message) }()
							if _, err := io.ReadFull(c, message); err != nil {
								b.Error(err)
							}
							open <- c
						}
					})
				}
				wg.Wait()
				time.Sleep(time.Second)
				b.ReportMetric(float64(r.resident(b)-before)/connections/1024, "KiB/conn")
				close(open)
				for c := range open {
					_ = c.Close()
				}
			})
		})
	}
}
