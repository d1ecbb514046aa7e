package api

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
)

// ErrAway says that the initiator could not be asked, or ended before it answered: what was asked may be done or not.
var ErrAway = errors.New("the initiator is away")

// Client calls the initiator on its socket. Safe from several goroutines; each call is bounded by its context only.
type Client struct {
	http http.Client
}

// NewClient talks to the initiator that listens at socket; it connects at the first call.
func NewClient(socket string) *Client {
	var dialer net.Dialer
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return dialer.DialContext(ctx, "unix", socket)
	}
	return &Client{http: http.Client{Transport: &http.Transport{DialContext: dial, MaxIdleConns: 1}}}
}

// Attach returns the device of the Volume, which it makes if need be.
func (c *Client) Attach(ctx context.Context, r AttachRequest) (Attachment, error) {
	var a Attachment
	if err := c.call(ctx, http.MethodPost, PathAttach, r, &a); err != nil {
		return Attachment{}, fmt.Errorf("attach volume %s: %w", r.Volume, err)
	}
	return a, nil
}

// Detach ends the device of the Volume; one that is not attached is no error.
func (c *Client) Detach(ctx context.Context, volume string) error {
	if err := c.call(ctx, http.MethodPost, PathDetach, DetachRequest{Volume: volume}, &struct{}{}); err != nil {
		return fmt.Errorf("detach volume %s: %w", volume, err)
	}
	return nil
}

// List is all that is attached. With a volume, others may be left out.
func (c *Client) List(ctx context.Context, volume string) ([]Attachment, error) {
	path := PathVolumes
	if volume != "" {
		path += "?" + url.Values{ParameterVolume: {volume}}.Encode()
	}
	var list VolumeList
	if err := c.call(ctx, http.MethodGet, path, nil, &list); err != nil {
		return nil, fmt.Errorf("list volumes: %w", err)
	}
	return list.Volumes, nil
}

// Health asks whether the initiator works.
func (c *Client) Health(ctx context.Context) (Health, error) {
	var h Health
	if err := c.call(ctx, http.MethodGet, PathHealth, nil, &h); err != nil {
		return Health{}, fmt.Errorf("ask initiator for health: %w", err)
	}
	return h, nil
}

func (c *Client) call(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("encode request: %w", err)
		}
		body = bytes.NewReader(text)
	}
	// The host is never resolved: the transport always dials the socket.
	req, err := http.NewRequestWithContext(ctx, method, "http://initiator"+path, body)
	if err != nil {
		return fmt.Errorf("make request: %w", err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrAway, err)
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, MaxBody))
	if err != nil {
		return fmt.Errorf("read answer: %w: %w", ErrAway, err)
	}
	if resp.StatusCode != http.StatusOK {
		return failure(resp.Status, answer)
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return fmt.Errorf("decode answer: %w", err)
	}
	return nil
}

// failure keeps the Code of an answer that has one.
func failure(status string, answer []byte) error {
	e := new(Error)
	if err := json.Unmarshal(answer, e); err != nil || e.Code == "" {
		return Errorf(CodeInternal, "initiator answered %s", status)
	}
	return e
}
