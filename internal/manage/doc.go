// Package manage is the loop of a managed slot, from the request to the generation
// that serves (DESIGN.md, 2): it makes keys and requests, knows which of them wait,
// and takes the answers back.
//
//	m := manage.New(manage.Config{Directory: directory, Keeper: keeper, Configuration: current})
//	err := m.Restore(ctx)                                    // after a start
//	made, err := m.NewRequest(ctx, manage.Order{Slot: "pcs"}) // send made.Letter
//	done, err := m.Import(ctx, manage.ImportOrder{Files: files})
//
// The daemon uses it, and so does the command line where no daemon runs: whoever
// holds the lock of the state directory.
//
// # What becomes of an answer
//
// An answer that fits a request is kept beside it and offered to the slot. Once it
// is in force the request ends, and its key lives on in the generation. What cannot
// be in force yet (it is not valid before a later day, its CA is not in the trust
// of the environment, the disk is full) stays and is tried again by itself. All
// else that is refused is dropped, and the request waits on.
//
// The request is no secret: anybody can sign a certificate for its key, with a CA of
// their own and any dates. An answer that no root of the environment vouches for
// never takes the place of one that is vouched for, and always gives way to it.
// ImportOrder.JudgedOnly is for where others may put one: there it is not kept.
//
// Guard rules that an order allows hold for the one answer, and not beyond a
// restart: one that waits with their help is then dropped, which is told, and has
// to be imported again.
//
// # Concurrency
//
// All methods may be called at once. What changes one slot waits for its turn;
// different slots do not wait for each other. An answer is judged before its turn,
// as whoever made it chose how long that takes. Nearly all touch the disk and many
// wait for the run loop of the Keeper, so none may be called from its events.
//
// # Errors
//
// What was judged, or was asked wrongly, is an [*Error]; others could not be done.
// None holds anything of a key or a password.
package manage
