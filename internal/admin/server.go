package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// maxRequest bounds the body of a request.
const maxRequest = 1 << 20

const (
	// writeTimeout is for the slowest request, a reload that waits for files that do
	// not answer, and its answer.
	writeTimeout = 3 * time.Minute
	// answerTimeout is for an answer alone, from its first byte on: whoever may only
	// read must not collect memory and descriptors of the daemon by not reading.
	answerTimeout = 10 * time.Second
	readTimeout   = 10 * time.Second
)

// Caller is who is on the other side of the socket, told by the kernel.
type Caller struct {
	UID int
	PID int
}

// Backend does what the API asks for. Errors may be *Error; others are CodeFailed.
type Backend struct {
	Status func(context.Context) Status
	Rotate func(context.Context, Caller, RotateRequest) (RotateResult, error)
	Reload func(context.Context, Caller) (ReloadResult, error)
	// Timeline is Status with the timelines of the slots; nil: there are none.
	Timeline func(context.Context) Status
	// What is nil is not supported, and says so.
	NewRequest func(context.Context, Caller, CSRRequest) (CSRResult, error)
	Cancel     func(context.Context, Caller, CancelRequest) (CancelResult, error)
	Request    func(ctx context.Context, id string) (CSRResult, error)
	Import     func(context.Context, Caller, ImportRequest) (ImportResult, error)
	Rollback   func(context.Context, Caller, RollbackRequest) (RotateResult, error)
	Refusals   func(context.Context) []Refusal
	Doctor     func(context.Context, DoctorRequest) (DoctorResult, error)
	Deliver    func(context.Context, Caller, DeliverRequest) (DeliverResult, error)
	Upgrade    func(context.Context, Caller, UpgradeRequest) (UpgradeResult, error)
	// Trust and Alerts may be nil.
	Trust  *TrustBackend
	Alerts *AlertBackend
	// Writers returns the user IDs that may change something.
	Writers func() []int
	// Forbidden is told who tried to change something without being one of them. May be nil.
	Forbidden func(c Caller, action string)
}

type callerKey struct{}

// CallerOf returns who is calling, from the context of a request.
func CallerOf(ctx context.Context) (Caller, bool) {
	c, ok := ctx.Value(callerKey{}).(Caller)
	return c, ok
}

// NewServer returns the server of the API. Serve it on a unix socket listener:
// a connection whose peer the kernel does not name is refused, and so is one too
// many. Its ConnContext and ConnState must stay.
func NewServer(b Backend) *http.Server { return newServer(b, answerTimeout) }

func newServer(b Backend, answerIn time.Duration) *http.Server {
	mux := http.NewServeMux()
	statusRoute(mux, b)
	mux.HandleFunc("POST /v1/rotate", change(b, "rotate", func(ctx context.Context, c Caller, in RotateRequest) (any, error) {
		return b.Rotate(ctx, c, in)
	}))
	mux.HandleFunc("POST /v1/reload", change(b, "reload", func(ctx context.Context, c Caller, _ struct{}) (any, error) {
		return b.Reload(ctx, c)
	}))
	requestRoutes(mux, b)
	trustRoutes(mux, b)
	alertRoutes(mux, b)
	doctorRoute(mux, b)
	refusalRoutes(mux, b)
	serviceRoute(mux, b)
	upgradeRoute(mux, b)
	mux.HandleFunc("/", notSupported)
	open := newConnections(b.Writers)
	return &http.Server{
		Handler:           identified(mux, answerIn),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		MaxHeaderBytes:    16 << 10,
		ConnState:         open.changed,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			caller, err := peer(c)
			if err != nil {
				caller.UID = -1 // nobody's: told that it is refused
			}
			if !open.enter(c, caller.UID) {
				_ = c.Close() // the server finds it ended; an answer would need another goroutine
				return ctx
			}
			if err != nil {
				return ctx
			}
			return context.WithValue(ctx, callerKey{}, caller)
		},
	}
}

func identified(next http.Handler, answerIn time.Duration) http.Handler {
	return http.HandlerFunc(func(inner http.ResponseWriter, r *http.Request) {
		w := &timed{inner, answerIn}
		if _, ok := CallerOf(r.Context()); !ok {
			answer(w, nil, &Error{Code: CodeForbidden, Message: "the kernel does not say who is calling"})
			return
		}
		next.ServeHTTP(w, r)
	})
}

// timed gives an answer a time of its own when it begins.
type timed struct {
	http.ResponseWriter
	within time.Duration
}

// WriteHeader sends the status.
func (t *timed) WriteHeader(status int) {
	_ = http.NewResponseController(t.ResponseWriter).SetWriteDeadline(time.Now().Add(t.within)) // fails on a closed connection only
	t.ResponseWriter.WriteHeader(status)
}

// Unwrap is for http.ResponseController.
func (t *timed) Unwrap() http.ResponseWriter { return t.ResponseWriter }

func notSupported(w http.ResponseWriter, r *http.Request) {
	answer(w, nil, &Error{Code: CodeUsage, Message: fmt.Sprintf("%s %q: not supported by this version", r.Method, r.URL.Path)})
}

// change wraps what alters something: who may, and what was sent.
func change[T any](b Backend, action string, do func(context.Context, Caller, T) (any, error)) http.HandlerFunc {
	return changeUpTo(b, action, maxRequest, do)
}

// changeUpTo is change for requests with up to limit bytes.
func changeUpTo[T any](b Backend, action string, limit int64, do func(context.Context, Caller, T) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		caller, err := permitted(b, r, action)
		if err != nil {
			answer(w, nil, err)
			return
		}
		var in T
		if err := decode(w, r, limit, &in); err != nil {
			answer(w, nil, err)
			return
		}
		result, err := do(r.Context(), caller, in)
		answer(w, result, err)
	}
}

// permitted returns who asks to change something, if that one may.
func permitted(b Backend, r *http.Request, action string) (Caller, error) {
	caller, _ := CallerOf(r.Context())
	if slices.Contains(b.Writers(), caller.UID) {
		return caller, nil
	}
	if b.Forbidden != nil {
		b.Forbidden(caller, action)
	}
	return caller, &Error{Code: CodeForbidden, Message: fmt.Sprintf("user %d may read, but not change anything", caller.UID),
		Hint: "run as root, or add the user to admin.writers"}
}

// decode reads the body of a request: what is not known in it is an error.
func decode(w http.ResponseWriter, r *http.Request, limit int64, in any) error {
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, limit))
	d.DisallowUnknownFields()
	if err := d.Decode(in); err != nil {
		return &Error{Code: CodeUsage, Message: "read request: " + err.Error()}
	}
	return nil
}

func answer(w http.ResponseWriter, result any, err error) {
	w.Header().Set("Content-Type", "application/json")
	status := http.StatusOK
	r := reply{Result: result}
	if err != nil {
		var e *Error
		if !errors.As(err, &e) {
			e = &Error{Code: CodeFailed, Message: err.Error()}
		}
		r.Error = e
		status = map[string]int{CodeForbidden: http.StatusForbidden, CodeUnknown: http.StatusNotFound, CodeUsage: http.StatusBadRequest,
			CodeConfiguration: http.StatusUnprocessableEntity, CodeRefused: http.StatusConflict}[e.Code]
		if status == 0 {
			status = http.StatusInternalServerError
		}
	}
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(r) // the caller went away: nobody is left to tell
}

// answerList answers with a list, and has one of its elements as JSON at a time:
// many may ask for a long one, and none may read it.
func answerList[T any](w http.ResponseWriter, list []T) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	before := `{"result":[`
	for _, element := range list {
		data, err := json.Marshal(element)
		if err != nil {
			return // what is sent is no JSON, which the client says
		}
		if _, err := io.WriteString(w, before); err != nil {
			return
		}
		if _, err := w.Write(data); err != nil {
			return // the caller went away, or does not read
		}
		before = ","
	}
	if len(list) == 0 {
		_, _ = io.WriteString(w, before)
	}
	_, _ = io.WriteString(w, "]}\n")
}

// peer asks the kernel who opened the connection.
func peer(c net.Conn) (Caller, error) {
	uc, ok := c.(*net.UnixConn)
	if !ok {
		return Caller{}, errors.New("not a unix socket")
	}
	raw, err := uc.SyscallConn()
	if err != nil {
		return Caller{}, err
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return Caller{}, err
	}
	if credErr != nil {
		return Caller{}, os.NewSyscallError("getsockopt", credErr)
	}
	return Caller{UID: int(cred.Uid), PID: int(cred.Pid)}, nil
}
