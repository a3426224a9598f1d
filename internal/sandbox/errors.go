package sandbox

import "errors"

// ErrUsage matches, with [errors.Is], errors of options that make no sense or
// are not supported by this version (exit status 2).
var ErrUsage = errors.New("usage")

// usageError is an error of the caller, with the next action.
type usageError struct{ message, hint string }

func (e usageError) Error() string        { return e.message }
func (e usageError) Hint() string         { return e.hint }
func (e usageError) Is(target error) bool { return target == ErrUsage }
