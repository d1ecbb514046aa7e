package holder

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

const (
	// network is the type of the socket: packets with an end, in order.
	network = "unixpacket"
	// maxMessage bounds a packet, in bytes.
	maxMessage = 64 << 10
	// maxFiles bounds the files of an Item. The kernel's own limit is 253.
	maxFiles = 16
	// maxItems bounds what a Holder keeps.
	maxItems = 1024
	// maxName bounds a name, in bytes.
	maxName = 256
)

// Item is what is kept under one name.
type Item struct {
	Name string
	// State says what the files are for; the holder does not look at it.
	State []byte
	// Files are open descriptors. Who is handed an Item by List owns them; Keep leaves them to the caller.
	Files []int
}

// Close closes the files.
func (i *Item) Close() {
	for _, fd := range i.Files {
		_ = unix.Close(fd)
	}
	i.Files = nil
}

// kind of a message.
type kind string

const (
	kindKeep  kind = "keep"
	kindDrop  kind = "drop"
	kindList  kind = "list"
	kindItem  kind = "item"
	kindOK    kind = "ok"
	kindError kind = "error"
)

// message is one packet, in either direction.
type message struct {
	Kind  kind   `json:"kind"`
	Name  string `json:"name,omitempty"`
	State []byte `json:"state,omitempty"`
	Error string `json:"error,omitempty"`

	files []int
}

func (m *message) item() Item { return Item{Name: m.Name, State: m.State, Files: m.files} }

// send writes m with its files as one packet.
func send(c *net.UnixConn, m *message) error {
	text, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("encode message: %w", err)
	}
	if len(text) > maxMessage || len(m.files) > maxFiles {
		return fmt.Errorf("send %d bytes and %d files: more than %d and %d", len(text), len(m.files), maxMessage, maxFiles)
	}
	var rights []byte
	if len(m.files) > 0 {
		rights = unix.UnixRights(m.files...)
	}
	if _, _, err := c.WriteMsgUnix(text, rights, nil); err != nil {
		return fmt.Errorf("send message: %w", err)
	}
	return nil
}

// errMalformed says that a packet is no message; the connection is still good.
var errMalformed = errors.New("malformed message")

// receive reads one packet. The files are the caller's.
func receive(c *net.UnixConn) (*message, error) {
	text := make([]byte, maxMessage)
	rights := make([]byte, unix.CmsgSpace(4*maxFiles))
	n, rightsN, flags, _, err := c.ReadMsgUnix(text, rights)
	if err != nil {
		return nil, fmt.Errorf("receive message: %w", err)
	}
	m := &message{}
	if m.files, err = parseRights(rights[:rightsN]); err != nil {
		return nil, err
	}
	if flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 {
		m.close()
		return nil, fmt.Errorf("receive message: cut off: %w", errMalformed)
	}
	if err := json.Unmarshal(text[:n], m); err != nil || len(m.Name) > maxName {
		m.close()
		return nil, fmt.Errorf("decode message of %d bytes: %w", n, errMalformed)
	}
	return m, nil
}

func (m *message) close() {
	i := m.item()
	i.Close()
}

func parseRights(raw []byte) ([]int, error) {
	if len(raw) == 0 {
		return nil, nil
	}
	messages, err := unix.ParseSocketControlMessage(raw)
	if err != nil {
		return nil, fmt.Errorf("parse rights: %w: %w", errMalformed, err)
	}
	var files []int
	for i := range messages {
		// Anything but SCM_RIGHTS was not asked for.
		if got, err := unix.ParseUnixRights(&messages[i]); err == nil {
			files = append(files, got...)
		}
	}
	return files, nil
}
