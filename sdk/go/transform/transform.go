package transform

// A SetupFunc prepares a transform for its deployment. See OnSetup.
type SetupFunc = func(*Setup) error

// A RecordFunc handles one record. See OnRecord.
type RecordFunc = func(*Context, Record) error

// registered is what the program's init functions registered.
var registered handlers

type handlers struct {
	onSetup  SetupFunc
	onRecord RecordFunc
}

// OnSetup registers f, which is called once before the first record. It is the
// place to read config values and assets and to look outputs up. An error
// refuses the deployment, and its text is shown to who deploys: name the config
// key and what it should be. OnSetup is optional; call it in an init function.
func OnSetup(f func(s *Setup) error) {
	if registered.onSetup != nil {
		panic("transform.OnSetup: called twice")
	}
	registered.onSetup = f
}

// OnRecord registers f, which is called for each record in the order of its
// partition. An error rejects the record: what it emitted is dropped, the
// error's text goes along as the reason, and the next record is handled. Call
// it in an init function.
//
// The record's slices and strings are views of the input and valid until f
// returns; copy what must live longer.
func OnRecord(f func(c *Context, r Record) error) {
	if registered.onRecord != nil {
		panic("transform.OnRecord: called twice")
	}
	registered.onRecord = f
}
