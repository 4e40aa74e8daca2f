package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
)

// ErrUnreachable: nothing answers at the client's address, or it is no Millstream admin API.
var ErrUnreachable = errors.New("the admin API cannot be reached")

// maxAnswerBytes bounds what a client reads.
const maxAnswerBytes = 64 << 20

// Client talks to an admin API. Errors are *Problem when the API answered, wrap
// ErrUnreachable when it did not, or are the context's. Safe for concurrent use.
type Client struct {
	base *url.URL
	http *http.Client
}

// NewClient returns a client for a base URL such as http://127.0.0.1:9644; nil means http.DefaultClient.
func NewClient(baseURL string, h *http.Client) (*Client, error) {
	base, err := url.Parse(baseURL)
	if err != nil || (base.Scheme != "http" && base.Scheme != "https") || base.Host == "" {
		return nil, fmt.Errorf("%q is not the address of an admin API: it looks like http://127.0.0.1:9644", baseURL)
	}
	if h == nil {
		h = http.DefaultClient
	}
	return &Client{base: base, http: h}, nil
}

// Info tells about the process behind the API.
func (c *Client) Info(ctx context.Context) (*Info, error) {
	return get[Info](ctx, c, http.MethodGet, PathInfo)
}

// UploadModule stores a module of sizeBytes (-1: unknown).
func (c *Client) UploadModule(ctx context.Context, wasm io.Reader, sizeBytes int64) (*ModuleInfo, error) {
	var answer ModuleInfo
	return &answer, c.do(ctx, http.MethodPost, PathModules, "application/wasm", wasm, sizeBytes, &answer)
}

// UploadAsset stores a file of sizeBytes (-1: unknown) for deployments.
func (c *Client) UploadAsset(ctx context.Context, b io.Reader, sizeBytes int64) (*AssetInfo, error) {
	var answer AssetInfo
	return &answer, c.do(ctx, http.MethodPost, PathAssets, "application/octet-stream", b, sizeBytes, &answer)
}

// TryModule has a module of sizeBytes (-1: unknown) checked for a plan, without storing it.
func (c *Client) TryModule(ctx context.Context, wasm io.Reader, sizeBytes int64) (*ModuleInfo, error) {
	var answer ModuleInfo
	return &answer, c.do(ctx, http.MethodPost, PathModules+"?try=true", "application/wasm", wasm, sizeBytes, &answer)
}

// TryAsset brings a file of sizeBytes (-1: unknown) for a plan, without storing it.
func (c *Client) TryAsset(ctx context.Context, b io.Reader, sizeBytes int64) (*AssetInfo, error) {
	var answer AssetInfo
	return &answer, c.do(ctx, http.MethodPost, PathAssets+"?try=true", "application/octet-stream", b, sizeBytes, &answer)
}

// Deploy makes a deployment, or the next version of one, and answers when it runs, or a little later.
func (c *Client) Deploy(ctx context.Context, r DeployRequest) (*Status, error) {
	return send[Status](ctx, c, PathDeployments, r)
}

// Plan tells what Deploy would do, and changes nothing.
func (c *Client) Plan(ctx context.Context, r DeployRequest) (*Plan, error) {
	return send[Plan](ctx, c, PathPlans, r)
}

// Rollback deploys an older version again, as the next one.
func (c *Client) Rollback(ctx context.Context, name string, r RollbackRequest) (*Status, error) {
	return send[Status](ctx, c, pathOf(name)+"/rollback", r)
}

// History returns the versions of a deployment that are kept, the newest first.
func (c *Client) History(ctx context.Context, name string) ([]Version, error) {
	history, err := get[[]Version](ctx, c, http.MethodGet, pathOf(name)+"/history")
	return *history, err
}

// Reset sets where a deployment that does not run goes on reading.
func (c *Client) Reset(ctx context.Context, name string, r ResetRequest) ([]OffsetChange, error) {
	changes, err := send[[]OffsetChange](ctx, c, pathOf(name)+"/reset", r)
	return *changes, err
}

// send posts a JSON value.
func send[T any](ctx context.Context, c *Client, path string, value any) (*T, error) {
	var answer T
	body, err := json.Marshal(value)
	if err != nil {
		return &answer, fmt.Errorf("encode the request: %w", err)
	}
	return &answer, c.do(ctx, http.MethodPost, path, "application/json", bytes.NewReader(body), int64(len(body)), &answer)
}

// List returns all deployments by name.
func (c *Client) List(ctx context.Context) ([]Status, error) {
	list, err := get[[]Status](ctx, c, http.MethodGet, PathDeployments)
	return *list, err
}

// Get returns one deployment.
func (c *Client) Get(ctx context.Context, name string) (*Status, error) {
	return get[Status](ctx, c, http.MethodGet, pathOf(name))
}

// Pause stops a deployment; its offsets are kept.
func (c *Client) Pause(ctx context.Context, name string) (*Status, error) {
	return get[Status](ctx, c, http.MethodPost, pathOf(name)+"/pause")
}

// Resume starts a deployment that is paused or has failed.
func (c *Client) Resume(ctx context.Context, name string) (*Status, error) {
	return get[Status](ctx, c, http.MethodPost, pathOf(name)+"/resume")
}

// Delete stops and forgets a deployment.
func (c *Client) Delete(ctx context.Context, name string) error {
	return c.do(ctx, http.MethodDelete, pathOf(name), "", nil, 0, nil)
}

func pathOf(name string) string { return PathDeployments + "/" + url.PathEscape(name) }

func get[T any](ctx context.Context, c *Client, method, path string) (*T, error) {
	answer := new(T)
	return answer, c.do(ctx, method, path, "", nil, 0, answer)
}

// do sends a request and decodes the answer into answer, if there is one.
func (c *Client) do(ctx context.Context, method, path, contentType string, body io.Reader, sizeBytes int64, answer any) error {
	request, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(c.base.String(), "/")+path, body)
	if err != nil {
		return fmt.Errorf("request to the admin API: %w", err)
	}
	request.ContentLength = sizeBytes
	if contentType != "" {
		request.Header.Set("Content-Type", contentType)
	}
	response, err := c.http.Do(request)
	if err != nil {
		return c.unreachable(ctx, err)
	}
	defer response.Body.Close()
	b, err := io.ReadAll(io.LimitReader(response.Body, maxAnswerBytes))
	if err != nil {
		return c.unreachable(ctx, err)
	}
	if response.StatusCode >= http.StatusBadRequest {
		return c.problem(response, b)
	}
	if answer == nil {
		return nil
	}
	if err := json.Unmarshal(b, answer); err != nil {
		return fmt.Errorf("%w: %s answers something else (%w): set MILLSTREAM_ADMIN to the admin address of a server", ErrUnreachable, c.base, err)
	}
	return nil
}

func (c *Client) problem(response *http.Response, b []byte) error {
	var p Problem
	if err := json.Unmarshal(b, &p); err != nil || p.Title == "" {
		return fmt.Errorf("%w: %s answers %q, not as an admin API would: set MILLSTREAM_ADMIN to the admin address of a server", ErrUnreachable, c.base, response.Status)
	}
	p.Status = response.StatusCode
	return &p
}

func (c *Client) unreachable(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if cause, ok := errors.AsType[*net.OpError](err); ok {
		err = cause
	}
	return fmt.Errorf("%w at %s (%w): start a server with `millstream server`, or set MILLSTREAM_ADMIN to the address of one that runs", ErrUnreachable, c.base, err)
}
