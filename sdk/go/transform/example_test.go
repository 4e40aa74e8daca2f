package transform_test

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/millstream-io/millstream/sdk/go/transform"
	"github.com/millstream-io/millstream/sdk/go/transform/transformtest"
)

// show runs a transform over records and prints what comes out. A plugin has no
// need of it: it registers its functions in init, and is deployed.
func show(o transformtest.Options, records ...transform.Record) {
	runner, err := transformtest.Start(o)
	if err != nil {
		fmt.Println("refused:", err)
		return
	}
	result := runner.Process(records...)
	for _, out := range result.Outputs {
		fmt.Printf("%s: %s\n", out.Name, out.Record.Value)
	}
	for _, reject := range result.Rejects {
		fmt.Printf("rejected %d: %s\n", reject.Input, reject.Reason)
	}
}

func ExampleOnRecord() {
	// func init() { transform.OnRecord(upper) }
	upper := func(c *transform.Context, r transform.Record) error {
		r.Value = bytes.ToUpper(r.Value)
		c.Emit(r) // with the key, event time and headers it came with
		return nil
	}
	show(transformtest.Options{OnRecord: upper}, transform.Record{Value: []byte("hello")})
	// Output: out: HELLO
}

func ExampleOnSetup() {
	var least int
	setup := func(s *transform.Setup) (err error) {
		least, err = s.ConfigInt("least", 10)
		return err
	}
	longEnough := func(c *transform.Context, r transform.Record) error {
		if len(r.Value) >= least {
			c.Emit(r)
		}
		return nil
	}
	o := transformtest.Options{OnSetup: setup, OnRecord: longEnough, Config: map[string]string{"least": "3"}}
	show(o, transform.Record{Value: []byte("no")}, transform.Record{Value: []byte("yes")})
	o.Config["least"] = "three"
	show(o)
	// Output:
	// out: yes
	// refused: config least=three: must be an integer
}

func ExampleContext_EmitTo() {
	var even, odd transform.Output
	setup := func(s *transform.Setup) (err error) {
		if even, err = s.Output("even"); err != nil {
			return err
		}
		odd, err = s.Output("odd")
		return err
	}
	split := func(c *transform.Context, r transform.Record) error {
		if len(r.Value)%2 == 0 {
			c.EmitTo(even, r)
		} else {
			c.EmitTo(odd, r)
		}
		return nil
	}
	o := transformtest.Options{OnSetup: setup, OnRecord: split, Outputs: []string{"odd", "even"}}
	show(o, transform.Record{Value: []byte("four")}, transform.Record{Value: []byte("three")})
	// Output:
	// even: four
	// odd: three
}

func ExampleContext_Reject() {
	notEmpty := func(c *transform.Context, r transform.Record) error {
		c.Emit(r)
		if len(r.Value) == 0 {
			return errors.New("no value") // as c.Reject("no value"): what was emitted is dropped
		}
		return nil
	}
	show(transformtest.Options{OnRecord: notEmpty}, transform.Record{}, transform.Record{Value: []byte("v")})
	// Output:
	// out: v
	// rejected 0: no value
}

func ExampleHeaders() {
	stamp := func(c *transform.Context, r transform.Record) error {
		for name, value := range r.Headers.All() {
			fmt.Printf("%s=%s\n", name, value)
		}
		r.Headers.Set("seen-by", []byte(c.Deployment()))
		fmt.Println("now", r.Headers.Len())
		c.Emit(r)
		return nil
	}
	show(transformtest.Options{OnRecord: stamp},
		transform.Record{Value: []byte("v"), Headers: transform.NewHeaders("lang", "en", "seen-by", "nobody")})
	// Output:
	// lang=en
	// seen-by=nobody
	// now 2
	// out: v
}

func ExampleSetup_Asset() {
	words := make(map[string]bool)
	setup := func(s *transform.Setup) error {
		content, ok := s.Asset("words")
		if !ok {
			return errors.New("asset words is missing: deploy with --asset words=FILE")
		}
		for _, word := range bytes.Fields(content) {
			words[string(word)] = true
		}
		return nil
	}
	known := func(c *transform.Context, r transform.Record) error {
		if words[string(r.Value)] {
			c.Emit(r)
		}
		return nil
	}
	show(transformtest.Options{OnSetup: setup, OnRecord: known, Assets: map[string][]byte{"words": []byte("uno dos")}},
		transform.Record{Value: []byte("dos")}, transform.Record{Value: []byte("two")})
	// Output: out: dos
}
