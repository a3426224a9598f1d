package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// maxRequest bounds the body of a request.
const maxRequest = 1 << 20

// writeTimeout is for the slowest request, a reload that waits for files that do
// not answer, and its answer: whoever may only read must not collect descriptors
// of the daemon by not reading.
const writeTimeout = 3 * time.Minute

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
	// What is nil is not supported, and says so.
	NewRequest func(context.Context, Caller, CSRRequest) (CSRResult, error)
	Cancel     func(context.Context, Caller, CancelRequest) (CancelResult, error)
	Request    func(ctx context.Context, id string) (CSRResult, error)
	Import     func(context.Context, Caller, ImportRequest) (ImportResult, error)
	Rollback   func(context.Context, Caller, RollbackRequest) (RotateResult, error)
	Refusals   func(context.Context) []Refusal
	Doctor     func(context.Context, DoctorRequest) (DoctorResult, error)
	// Trust may be nil.
	Trust *TrustBackend
	// Writers returns the user IDs that may change something.
	Writers func() []int
	// Forbidden is told who tried to change something without being one of them. May be nil.
	Forbidden func(c Caller, action string)
}

type callerKey struct{}

// NewServer returns the server of the API. Serve it on a unix socket listener:
// a connection whose peer the kernel does not name is refused.
func NewServer(b Backend) *http.Server {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", func(w http.ResponseWriter, r *http.Request) {
		answer(w, b.Status(r.Context()), nil)
	})
	mux.HandleFunc("POST /v1/rotate", change(b, "rotate", func(ctx context.Context, c Caller, in RotateRequest) (any, error) {
		return b.Rotate(ctx, c, in)
	}))
	mux.HandleFunc("POST /v1/reload", change(b, "reload", func(ctx context.Context, c Caller, _ struct{}) (any, error) {
		return b.Reload(ctx, c)
	}))
	requestRoutes(mux, b)
	trustRoutes(mux, b)
	doctorRoute(mux, b)
	refusalRoutes(mux, b)
	mux.HandleFunc("/", notSupported)
	return &http.Server{
		Handler:           identified(mux),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      writeTimeout,
		MaxHeaderBytes:    16 << 10,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			caller, err := peer(c)
			if err != nil {
				return ctx
			}
			return context.WithValue(ctx, callerKey{}, caller)
		},
	}
}

func identified(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, ok := r.Context().Value(callerKey{}).(Caller); !ok {
			answer(w, nil, &Error{Code: CodeForbidden, Message: "the kernel does not say who is calling"})
			return
		}
		next.ServeHTTP(w, r)
	})
}

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
	caller, _ := r.Context().Value(callerKey{}).(Caller)
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
