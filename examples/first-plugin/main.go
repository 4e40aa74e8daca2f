// First-plugin greets: the ten lines of the README.
package main

import "github.com/millstream-io/millstream/sdk/go/transform"

func init() {
	transform.OnRecord(func(c *transform.Context, r transform.Record) error {
		r.Value = append([]byte("Hello, "), r.Value...)
		c.Emit(r)
		return nil
	})
}

func main() {}
