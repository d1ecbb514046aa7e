package holder

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// serve runs a Holder on a socket of its own until the test ends.
func serve(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	ctx, stop := context.WithCancel(context.Background())
	l, err := Listen(ctx, path)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- New(slog.New(slog.DiscardHandler)).Serve(ctx, l) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return path
}

func dial(t *testing.T, path string) *Client {
	t.Helper()
	c, err := Dial(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// pipe is an Item that holds the writing end of a pipe, and the end at which one sees when it is closed.
func pipe(t *testing.T, name, state string) (Item, *os.File) {
	t.Helper()
	var ends [2]int
	if err := unix.Pipe2(ends[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	r := os.NewFile(uintptr(ends[0]), name)
	t.Cleanup(func() { _ = r.Close() })
	return Item{Name: name, State: []byte(state), Files: []int{ends[1]}}, r
}

// keep hands the item over, and closes the test's own descriptor.
func keep(t *testing.T, c *Client, i Item) {
	t.Helper()
	if err := c.Keep(t.Context(), i); err != nil {
		t.Fatal(err)
	}
	i.Close()
}

func list(t *testing.T, c *Client) []Item {
	t.Helper()
	items, err := c.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for i := range items {
			items[i].Close()
		}
	})
	return items
}

func wantEnd(t *testing.T, r *os.File) {
	t.Helper()
	if text, err := io.ReadAll(r); err != nil || len(text) != 0 {
		t.Errorf("read %q, %v, want an end", text, err)
	}
}

func TestASuccessorGetsWhatADeadProcessKept(t *testing.T) {
	path := serve(t)
	first := dial(t, path)
	i, r := pipe(t, "a", "old")
	keep(t, first, i)
	first.Close()
	got := list(t, dial(t, path))
	if len(got) != 1 || got[0].Name != "a" || string(got[0].State) != "old" || len(got[0].Files) != 1 {
		t.Fatalf("got %+v", got)
	}
	if _, err := unix.Write(got[0].Files[0], []byte("x")); err != nil {
		t.Fatal(err)
	}
	if text := make([]byte, 1); true {
		if _, err := io.ReadFull(r, text); err != nil || text[0] != 'x' {
			t.Errorf("read %q, %v by the descriptor that was kept", text, err)
		}
	}
}

func TestASuccessorWaitsUntilItsPredecessorHasGone(t *testing.T) {
	path := serve(t)
	first := dial(t, path)
	list(t, first)
	second := dial(t, path)
	answered := make(chan []Item, 1)
	go func() {
		items, _ := second.List(context.Background())
		answered <- items
	}()
	// The first is served as long as it is there, whatever the second wants.
	for n := range 100 {
		i, _ := pipe(t, fmt.Sprint(n%10), "")
		keep(t, first, i)
	}
	if len(answered) != 0 {
		t.Fatal("two clients are served at a time")
	}
	first.Close()
	items := <-answered
	for i := range items {
		items[i].Close()
	}
	if len(items) != 10 {
		t.Errorf("got %d items, want the 10 of the first client", len(items))
	}
}

func TestAClientThatCannotBeTakenEndsNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := Listen(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- New(slog.New(slog.DiscardHandler)).Serve(t.Context(), l) }()
	first := dial(t, path)
	i, _ := pipe(t, "a", "")
	keep(t, first, i)
	// As good as a lack of descriptors.
	if err := l.SetDeadline(time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	first.Close()
	select {
	case err := <-ended:
		t.Fatalf("it ended: %v", err)
	case <-time.After(3 * acceptPause):
	}
	if err := l.SetDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	if got := list(t, dial(t, path)); len(got) != 1 {
		t.Errorf("got %+v, want what the first kept", got)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestWhatIsReplacedOrDroppedIsClosed(t *testing.T) {
	c := dial(t, serve(t))
	replaced, r1 := pipe(t, "a", "1")
	keep(t, c, replaced)
	dropped, r2 := pipe(t, "a", "2")
	keep(t, c, dropped)
	wantEnd(t, r1)
	if got := list(t, c); len(got) != 1 || string(got[0].State) != "2" {
		t.Errorf("got %+v, want the second state", got)
	} else {
		got[0].Close()
	}
	for range 2 {
		if err := c.Drop(t.Context(), "a"); err != nil {
			t.Errorf("drop: %v", err)
		}
	}
	wantEnd(t, r2)
}

func TestBadMessagesAreRefusedAndLeaveTheConnection(t *testing.T) {
	path := serve(t)
	raw, err := net.Dial(network, path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = raw.Close() }()
	for _, text := range []string{
		"garbage", "{}", `{"kind":"item"}`, `{"kind":"keep","name":"a"}`, `{"kind":"keep","name":"` +
			strings.Repeat("a", maxName+1) + `"}`, `{"kind":"list","name":7}`,
	} {
		if _, err := raw.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
		answer := make([]byte, maxMessage)
		n, err := raw.Read(answer)
		if err != nil || !strings.Contains(string(answer[:n]), `"kind":"error"`) {
			t.Errorf("%.40s: answered %s, %v, want an error", text, answer[:n], err)
		}
	}
}

func TestNoMoreThanTheLimitIsKept(t *testing.T) {
	c := dial(t, serve(t))
	for n := range maxItems {
		i := Item{Name: fmt.Sprint(n), Files: []int{2}}
		if err := c.Keep(t.Context(), i); err != nil {
			t.Fatalf("item %d: %v", n, err)
		}
	}
	if err := c.Keep(t.Context(), Item{Name: "more", Files: []int{2}}); err == nil {
		t.Error("one more than the limit was kept")
	}
	if err := c.Keep(t.Context(), Item{Name: "0", Files: []int{2}}); err != nil {
		t.Errorf("replace one at the limit: %v", err)
	}
}

func TestAHolderThatIsAwayIsTold(t *testing.T) {
	if _, err := Dial(t.Context(), filepath.Join(t.TempDir(), "s")); !errors.Is(err, ErrAway) {
		t.Errorf("got %v, want %v", err, ErrAway)
	}
	// A socket that a dead one has left.
	path := filepath.Join(t.TempDir(), "s")
	l, err := Listen(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Dial(t.Context(), path); !errors.Is(err, ErrAway) {
		t.Errorf("dead: got %v, want %v", err, ErrAway)
	}
}

func TestWhoDoesNotFindOutDoesNotSayThatNobodyIsThere(t *testing.T) {
	path := serve(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Dial(ctx, path); errors.Is(err, ErrAway) || !errors.Is(err, context.Canceled) {
		t.Errorf("dial: got %v, want %v", err, context.Canceled)
	}
	if l, err := Listen(ctx, path); err == nil {
		_ = l.Close()
		t.Error("listen: it took the socket of a live holder")
	}
	list(t, dial(t, path))
}

func TestASecondHolderDoesNotTakeTheSocket(t *testing.T) {
	path := serve(t)
	if l, err := Listen(t.Context(), path); err == nil {
		_ = l.Close()
		t.Error("it took it")
	}
	list(t, dial(t, path))
}
