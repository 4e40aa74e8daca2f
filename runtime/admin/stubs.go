package admin

import (
	"context"
	"io"
	"net"
	"net/http"

	"github.com/millstream-io/millstream/runtime"
)

// Client talks to an admin API.
type Client struct{}

var _ clientMethods = (*Client)(nil)

// NewClient returns a client for a base URL such as http://127.0.0.1:9644. Errors are *Problem, or a connection error.
func NewClient(baseURL string, h *http.Client) (*Client, error) { panic("stub") }

func (c *Client) Info(ctx context.Context) (*Info, error) { panic("stub") }
func (c *Client) UploadModule(ctx context.Context, wasm io.Reader, sizeBytes int64) (*ModuleInfo, error) {
	panic("stub")
}
func (c *Client) UploadAsset(ctx context.Context, b io.Reader, sizeBytes int64) (*AssetInfo, error) {
	panic("stub")
}
func (c *Client) Deploy(ctx context.Context, r DeployRequest) (*Status, error) { panic("stub") }
func (c *Client) List(ctx context.Context) ([]Status, error)                   { panic("stub") }
func (c *Client) Get(ctx context.Context, name string) (*Status, error)        { panic("stub") }
func (c *Client) Pause(ctx context.Context, name string) (*Status, error)      { panic("stub") }
func (c *Client) Resume(ctx context.Context, name string) (*Status, error)     { panic("stub") }
func (c *Client) Delete(ctx context.Context, name string) error                { panic("stub") }

// Server serves the API of a runtime.
type Server struct{}

// NewServer makes a server. ready tells whether the process serves; metrics is the /metrics handler.
func NewServer(r *runtime.Runtime, info Info, metrics http.Handler, ready func() error) *Server {
	panic("stub")
}

// Serve serves until Close.
func (s *Server) Serve(l net.Listener) error      { panic("stub") }
func (s *Server) Close(ctx context.Context) error { panic("stub") }
