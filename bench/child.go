package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"
)

// What needs a process of its own is this program again, with one of these words:
// trust, so that its memory is its own; the backend of 10,000 connections, as one
// process may not have descriptors for both ends.
const (
	childTrust   = "child-trust"
	childBackend = "child-backend"
)

// child does the work of a child process. It returns false if this is none.
func child(args []string) (bool, error) {
	if len(args) == 0 {
		return false, nil
	}
	switch args[0] {
	case childTrust:
		var in trustInput
		if err := json.NewDecoder(os.Stdin).Decode(&in); err != nil {
			return true, fmt.Errorf("read input: %w", err)
		}
		out, err := measureTrust(in)
		if err != nil {
			return true, err
		}
		return true, json.NewEncoder(os.Stdout).Encode(out)
	case childBackend:
		if err := raiseDescriptorLimit(descriptors); err != nil {
			return true, err
		}
		b, err := newBackend()
		if err != nil {
			return true, err
		}
		fmt.Println(b.addr())
		_, err = io.Copy(io.Discard, os.Stdin) // until the parent ends it, or ends
		b.close()
		return true, err
	}
	return false, nil
}

// askTrust runs measureTrust in a child.
func askTrust(ctx context.Context, in trustInput) (trustFigures, error) {
	var out trustFigures
	text, err := json.Marshal(in)
	if err != nil {
		return out, err
	}
	self, err := os.Executable()
	if err != nil {
		return out, fmt.Errorf("find own program: %w", err)
	}
	cmd := exec.CommandContext(ctx, self, childTrust)
	var said strings.Builder
	cmd.Stdin, cmd.Stderr = strings.NewReader(string(text)), &said
	answer, err := cmd.Output()
	if ctx.Err() != nil {
		return out, context.Cause(ctx)
	}
	if err != nil {
		return out, fmt.Errorf("measure in a child: %w: %s", err, strings.TrimSpace(said.String()))
	}
	return out, json.Unmarshal(answer, &out)
}

// remoteBackend starts a backend in a child. The function it returns ends it.
func remoteBackend(ctx context.Context) (addr string, stop func(), err error) {
	self, err := os.Executable()
	if err != nil {
		return "", nil, fmt.Errorf("find own program: %w", err)
	}
	cmd := exec.CommandContext(ctx, self, childBackend)
	cmd.Stderr, cmd.WaitDelay = os.Stderr, stopLimit
	life, err := cmd.StdinPipe()
	if err != nil {
		return "", nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", nil, err
	}
	if err := cmd.Start(); err != nil {
		return "", nil, fmt.Errorf("start backend: %w", err)
	}
	stop = func() {
		life.Close()
		late := time.AfterFunc(stopLimit, func() { _ = cmd.Process.Kill() })
		defer late.Stop()
		_ = cmd.Wait()
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if addr = strings.TrimSpace(line); err != nil || addr == "" {
		stop()
		return "", nil, errors.Join(errors.New("start backend: it named no address"), err)
	}
	return addr, stop, nil
}
