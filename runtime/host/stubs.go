package host

import (
	"context"

	"github.com/millstream-io/millstream/runtime/module"
)

type Host struct{}
type Program struct{}
type Instance struct{}

func DefaultLimits() Limits { panic("stub") }

func New(ctx context.Context, o Options) (*Host, error)                              { panic("stub") }
func (h *Host) Compile(ctx context.Context, wasm []byte, l Limits) (*Program, error) { panic("stub") }
func (h *Host) Close(ctx context.Context) error                                      { panic("stub") }
func (p *Program) Report() *module.Report                                            { panic("stub") }
func (p *Program) Instantiate(ctx context.Context, s Setup, log LogFunc) (*Instance, error) {
	panic("stub")
}
func (p *Program) Close(ctx context.Context) error                       { panic("stub") }
func (i *Instance) Input(ctx context.Context, size int) ([]byte, error)  { panic("stub") }
func (i *Instance) Process(ctx context.Context, b Batch) (Result, error) { panic("stub") }
func (i *Instance) MemoryBytes() int64                                   { panic("stub") }
func (i *Instance) Close(ctx context.Context) error                      { panic("stub") }

var (
	_ hostMethods     = (*Host)(nil)
	_ programMethods  = (*Program)(nil)
	_ instanceMethods = (*Instance)(nil)
)
