// Package deliver keeps local services on the identity of their slot: it writes
// their files, has them read the files again, sees what they serve then, and takes
// everything back where that is not what was delivered.
//
//	m := deliver.New(deliver.Options{Records: directory, Slot: keeper.Slot, ...})
//	go m.Run(ctx)
//	m.Apply(config.Services)
//	m.WakeSlot("pcs") // something may have changed
//
// # How it works
//
// A service has a digest that it should be at (what its slot, trust and CRLs are now,
// and the recipe of its files) and a record of what was delivered and proved. Where
// the two differ there is something to do:
//
//	write a set -> record the attempt -> swap `current` -> validate -> reload -> prove -> record the proof
//
// Each step can be cut short by a crash: the next start finds in the record how far
// it came, and goes on. What fails is taken back to the set that was proved last,
// and its digest is held: it is not tried again until the slot changes or somebody
// says so. What the set is not to blame for (a service that was down before, a bus
// that is away, a directory that cannot be written) is tried again with a back-off.
//
// # Concurrency
//
// Every service has a goroutine of its own, so that one that hangs holds up no other
// and nobody else. All methods of Manager may be called by many goroutines; Wake
// and Status never block.
//
// # Errors
//
// Steps fail with a *failure.Error: a reason in a word, a sentence, and a hint. They
// are in the Status of the service, and told as an Event once per cause.
package deliver
