package tunnel

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"

	"github.com/spinecert/spinecert/trust"
)

// What crypto/tls says only in words. TestTLSWords fails when Go changes them.
const (
	wordsNoClientCertificate = "tls: client didn't provide a certificate"
	wordsNoServerCertificate = "tls: received empty certificates message"
	wordsBadClientChain      = "tls: failed to parse client certificate: "
	wordsBadServerChain      = "tls: failed to parse certificate from server: "
)

// refusalOf returns the refusal in err, or nil.
func refusalOf(err error) *trust.VerifyError {
	var refusal *trust.VerifyError
	if errors.As(err, &refusal) {
		return refusal
	}
	return nil
}

// outcome is how a handshake ended whose peer got this verdict.
func outcome(v trust.Verdict, err error, audit bool) Handshake {
	if err == nil {
		return Handshake{Result: Accepted, Verdict: v}
	}
	result, reason := classify(err)
	if audit && refusalOf(err) != nil {
		result = Audited
	}
	return Handshake{Result: result, Reason: reason, Err: err}
}

// Classify says how a handshake that ended with err counts, for a server that is no tunnel.
func Classify(err error) (Result, string) { return classify(err) }

// classify says how a handshake that ended with err counts.
func classify(err error) (Result, string) {
	if refusal := refusalOf(err); refusal != nil {
		return Refused, string(refusal.Reason)
	}
	switch {
	case errors.Is(err, errTooLarge):
		return Refused, string(trust.TooLarge)
	case errors.Is(err, errBusy):
		return Limited, LimitHandshakes
	}
	words := err.Error()
	switch {
	case words == wordsNoClientCertificate, words == wordsNoServerCertificate:
		return Refused, string(trust.NoCertificate)
	case strings.HasPrefix(words, wordsBadClientChain), strings.HasPrefix(words, wordsBadServerChain):
		return Refused, string(trust.Malformed)
	}
	return Failed, string(trust.Protocol)
}

// explain puts before err what an operator would otherwise have to know.
func explain(err error) error {
	var alert tls.AlertError
	var op *net.OpError
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("handshake timed out: %w", err)
	case errors.As(err, &op) && op.Op == "remote error", errors.As(err, &alert):
		return fmt.Errorf("the peer refused: %w", err)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("the peer hung up during the handshake: %w", err)
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return fmt.Errorf("the peer broke the connection off during the handshake: %w", err)
	}
	return err
}
