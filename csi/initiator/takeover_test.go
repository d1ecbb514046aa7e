package initiator

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/shale-storage/shale/api/v1alpha1"
	"github.com/shale-storage/shale/csi/attach"
	"github.com/shale-storage/shale/csi/attach/holder"
	"github.com/shale-storage/shale/csi/initiator/api"
)

// newHolder runs a holder until the test ends and gives its socket.
func newHolder(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	ctx, stop := context.WithCancel(context.Background())
	l, err := holder.Listen(ctx, path)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- holder.New(slog.New(slog.DiscardHandler)).Serve(ctx, l) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("holder: %v", err)
		}
	})
	return path
}

// life is an Initiator over fakes that is connected to the holder, with what it adopted. opened are the generations
// with which it has opened the Volume; die ends its connection as its death would.
type life struct {
	*fixture
	adopted []*entry
	opened  []uint64
	die     func()
}

func newLife(t *testing.T, socket string, number uint32) *life {
	t.Helper()
	l := &life{fixture: &fixture{frontend: &fakeFrontend{}}}
	o := l.options()
	o.Holder, o.Life = socket, number
	open := o.Open
	o.Open = func(ctx context.Context, r api.AttachRequest) (Volume, error) {
		l.opened = append(l.opened, r.Generation)
		return open(ctx, r)
	}
	var err error
	if l.Initiator, err = New(o); err != nil {
		t.Fatal(err)
	}
	if l.adopted, err = l.takeOver(t.Context()); err != nil {
		t.Fatal(err)
	}
	l.die = func() {
		if c := l.holding.client; c != nil {
			l.holding.lose(c)
		}
	}
	t.Cleanup(l.die)
	return l
}

const step = v1alpha1.AttachGenerationStep

// diedAttached is a life that attached a device and died.
func diedAttached(t *testing.T, socket string, number uint32) *life {
	t.Helper()
	first := newLife(t, socket, number)
	if _, err := first.Attach(t.Context(), request("a", step)); err != nil {
		t.Fatal(err)
	}
	first.die()
	return first
}

func TestEachLifeOpensTheVolumeWithAHigherGenerationOfTheSameAttachment(t *testing.T) {
	socket := newHolder(t)
	last := diedAttached(t, socket, 100).opened[0]
	if last != step+100 {
		t.Errorf("first opened with %d, want %d", last, step+100)
	}
	// The clock stands still, goes on, falls back.
	for _, number := range []uint32{100, 500, 7} {
		next := newLife(t, socket, number)
		if len(next.adopted) != 1 {
			t.Fatalf("adopted %d devices, want 1", len(next.adopted))
		}
		next.resume(t.Context(), next.adopted[0])
		if next.frontend.resumed != 1 || len(next.opened) != 1 || next.opened[0] <= last || next.opened[0] >= 2*step {
			t.Errorf("life %d: resumed %d times, opened with %v after %d", number, next.frontend.resumed, next.opened, last)
		}
		if got := next.listed(t); len(got) != 1 || got[0].Generation != step || got[0].DevicePath != "/dev/adopted" {
			t.Errorf("life %d lists %+v", number, got)
		}
		if same, err := next.Attach(t.Context(), request("a", step)); err != nil || same.DevicePath != "/dev/adopted" {
			t.Errorf("life %d: the same request got %+v, %v", number, same, err)
		}
		last = next.opened[0]
		next.die()
	}
}

func TestADeviceThatWasTakenOverCanBeDetachedAndAttachedAnew(t *testing.T) {
	socket := newHolder(t)
	diedAttached(t, socket, 100)
	// The clock has not gone on: the life of the attachment is higher than that of the process.
	next := newLife(t, socket, 100)
	var seen uint64
	open, failures := next.Initiator.options.Open, 3
	next.Initiator.options.Open = func(ctx context.Context, r api.AttachRequest) (Volume, error) {
		if r.Generation < seen {
			return nil, api.Errorf(api.CodeFenced, "%d was seen", seen)
		}
		seen = r.Generation
		if failures--; failures >= 0 {
			return nil, api.Errorf(api.CodeUnreachable, "not all shards answer")
		}
		return open(ctx, r)
	}
	next.resume(t.Context(), next.adopted[0])
	if seen != step+101 || next.frontend.resumed != 1 {
		t.Errorf("opened with %d after 3 failures, want %d; resumed %d times", seen, step+101, next.frontend.resumed)
	}
	if err := next.Detach(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	if _, err := next.Attach(t.Context(), request("a", step)); err != nil {
		t.Errorf("attach with the same generation: %v", err)
	}
	// Other volumes have nothing to do with that.
	seen = 0
	if _, err := next.Attach(t.Context(), request("b", step)); err != nil || seen != step+100 {
		t.Errorf("another volume: %v, opened with %d, want %d", err, seen, step+100)
	}
}

// fencing has the storenodes refuse what is below the highest generation that they have seen.
func (l *life) fencing(seen *uint64) {
	open := l.Initiator.options.Open
	l.Initiator.options.Open = func(ctx context.Context, r api.AttachRequest) (Volume, error) {
		if r.Generation < *seen {
			l.opened = append(l.opened, r.Generation)
			return nil, api.Errorf(api.CodeFenced, "%d was seen", *seen)
		}
		*seen = r.Generation
		return open(ctx, r)
	}
}

func TestALifeThatIsFencedFollowsAClockThatHadFallenBack(t *testing.T) {
	x := newLife(t, "", 100)
	now, seen := uint32(100), uint64(step+500)
	x.Initiator.options.Clock = func() uint32 { return now }
	x.fencing(&seen)
	_, err := x.Attach(t.Context(), request("a", step))
	wantCode(t, err, api.CodeFenced)
	if len(x.opened) != 1 {
		t.Errorf("opened with %v", x.opened)
	}
	// Set right, and behind again: what this process has shown the storenodes, it must not fall below.
	for _, now = range []uint32{600, 7} {
		if _, err := x.Attach(t.Context(), request("a", step)); err != nil {
			t.Errorf("at %d: %v", now, err)
		}
		if err := x.Detach(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
	}
	// A process that begins in that very second is above it.
	if next := newLife(t, "", 600); seen >= openAs(request("a", step), next.lifeOf(request("a", step))).Generation {
		t.Errorf("opened with %d, which the next process does not exceed", seen)
	}
}

func TestAClockThatJumpsAheadLeavesNoLifeBehind(t *testing.T) {
	x := newLife(t, "", 100)
	now, seen := uint32(1_000_000), uint64(0)
	x.Initiator.options.Clock = func() uint32 { return now }
	x.fencing(&seen)
	if _, err := x.Attach(t.Context(), request("a", step)); err != nil || seen != step+100 {
		t.Errorf("opened with %d, %v, want %d", seen, err, step+100)
	}
	// Fenced by an attachment elsewhere: the life of the clock does not help, and does not stay.
	seen = 3 * step
	_, err := x.Attach(t.Context(), request("b", 2*step))
	wantCode(t, err, api.CodeFenced)
	for _, r := range []api.AttachRequest{request("b", 3*step), request("a", 4*step)} {
		if _, err := x.Attach(t.Context(), r); err != nil || seen != r.Generation+100 {
			t.Errorf("generation %d: opened with %d, %v", r.Generation, seen, err)
		}
	}
	now = 200
	seen = 4 * step
	next := newLife(t, "", now)
	next.fencing(&seen)
	if _, err := next.Attach(t.Context(), request("a", 4*step)); err != nil {
		t.Errorf("after a restart with the right clock: %v", err)
	}
}

func TestReadersThatAreFencedAskOnce(t *testing.T) {
	x := newLife(t, "", 100)
	seen := uint64(2 * step)
	x.Initiator.options.Clock = func() uint32 { return 600 }
	x.fencing(&seen)
	r := request("a", step)
	r.ReadOnly = true
	_, err := x.Attach(t.Context(), r)
	wantCode(t, err, api.CodeFenced)
	if len(x.opened) != 1 {
		t.Errorf("opened with %v", x.opened)
	}
}

func TestTheLivesThatAreRememberedAreBounded(t *testing.T) {
	x := newLife(t, "", 100)
	x.table["v0"] = newEntry()
	for n := range maxRaised + 100 {
		x.raise(request(fmt.Sprintf("v%d", n), step), 200)
	}
	if len(x.raised) != maxRaised || x.lifeOf(request("v0", step)) != 200 {
		t.Errorf("%d are remembered, of one that is attached %d", len(x.raised), x.lifeOf(request("v0", step)))
	}
}

func TestASuccessorAsksWhereTheVolumeIsNow(t *testing.T) {
	const newer = "10.0.0.9:7800"
	for name, learn := range map[string]func(*life) error{
		"the volume knows": func(l *life) error {
			l.volumes[0].addresses = []string{newer}
			l.learnAll(t.Context())
			return nil
		},
		"the next call tells": func(l *life) error {
			r := request("a", step)
			r.Addresses = []string{newer}
			_, err := l.Attach(t.Context(), r)
			return err
		},
		"a holder that was away": func(l *life) error {
			l.volumes[0].addresses = []string{newer}
			l.die()
			l.learnAll(t.Context())
			if err := l.holding.connect(t.Context()); err != nil {
				return err
			}
			l.learnAll(t.Context())
			return nil
		},
		"it knew when it was opened": func(l *life) error {
			if err := l.Detach(t.Context(), "a"); err != nil {
				return err
			}
			open := l.Initiator.options.Open
			l.Initiator.options.Open = func(ctx context.Context, r api.AttachRequest) (Volume, error) {
				v, err := open(ctx, r)
				l.volumes[len(l.volumes)-1].addresses = []string{newer}
				return v, err
			}
			_, err := l.Attach(t.Context(), request("a", step))
			return err
		},
	} {
		first := newLife(t, newHolder(t), 100)
		if _, err := first.Attach(t.Context(), request("a", step)); err != nil {
			t.Fatal(err)
		}
		if err := learn(first); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		first.die()
		next := newLife(t, first.holding.socket, 200)
		want := []string{newer, "10.0.0.1:7800"}
		if got := next.adopted[0].request.Addresses; !slices.Equal(got, want) {
			t.Errorf("%s: the successor is to ask %v, want %v", name, got, want)
		}
		next.resume(t.Context(), next.adopted[0])
		if r := next.adopted[0].request; next.frontend.resumed != 1 || r.Validate() != nil {
			t.Errorf("%s: resumed %d", name, next.frontend.resumed)
		}
	}
}

func TestTheAddressesOfAVolumeAreBounded(t *testing.T) {
	var many []string
	for n := range 2 * api.MaxAddresses {
		many = append(many, fmt.Sprintf("10.0.0.%d:7800", n))
	}
	v := &fakeVolume{addresses: many[:3]}
	got := addressesOf(v, many[2:5], many)
	if !slices.Equal(got, many[:api.MaxAddresses]) {
		t.Errorf("got %v", got)
	}
}

func TestADeviceThatIsHalfEndedOrNotResumedLearnsNothing(t *testing.T) {
	x := newLife(t, newHolder(t), 100)
	if _, err := x.Attach(t.Context(), request("a", step)); err != nil {
		t.Fatal(err)
	}
	e := x.table["a"]
	e.ending = true
	x.volumes[0].addresses = []string{"10.0.0.9:7800"}
	x.learn(t.Context(), e, nil)
	e.ending, e.volume = false, nil // as one that was not resumed before the process ends
	x.learnAll(t.Context())
	if len(e.request.Addresses) != 1 {
		t.Errorf("it learned %v", e.request.Addresses)
	}
}

func TestReadersKeepTheGenerationThatTheyShare(t *testing.T) {
	socket := newHolder(t)
	first := newLife(t, socket, 100)
	r := request("a", step)
	r.ReadOnly = true
	if _, err := first.Attach(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	first.die()
	next := newLife(t, socket, 200)
	next.resume(t.Context(), next.adopted[0])
	if first.opened[0] != step || next.opened[0] != step {
		t.Errorf("opened with %v, then %v, want %d", first.opened, next.opened, uint64(step))
	}
}

func TestAnAdoptedDeviceIsBusyUntilItIsResumed(t *testing.T) {
	socket := newHolder(t)
	diedAttached(t, socket, 1)
	next := newLife(t, socket, 2)
	wantCode(t, next.Detach(t.Context(), "a"), api.CodeBusy)
	next.resume(t.Context(), next.adopted[0])
	if err := next.Detach(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	next.die()
	if after := newLife(t, socket, 3); len(after.adopted) != 0 {
		t.Errorf("adopted %d devices after the detach", len(after.adopted))
	}
}

func TestAnAttachmentFencedMeanwhileIsGivenUp(t *testing.T) {
	socket := newHolder(t)
	diedAttached(t, socket, 1)
	next := newLife(t, socket, 2)
	next.open = api.Errorf(api.CodeFenced, "a newer attachment exists")
	next.resume(t.Context(), next.adopted[0])
	if next.frontend.abandoned != 1 || next.frontend.resumed != 0 || len(next.listed(t)) != 0 || next.holding.holds("a") {
		t.Errorf("abandoned %d, resumed %d, lists %v", next.frontend.abandoned, next.frontend.resumed, next.listed(t))
	}
}

func TestADeviceGoesOnWithAVolumeThatHasGrownNotWithOneThatIsTooSmall(t *testing.T) {
	for size, want := range map[int64]int{2 * testSize: 1, testSize: 1, testSize - 4096: 0} {
		socket := newHolder(t)
		diedAttached(t, socket, 1)
		next := newLife(t, socket, 2)
		next.Initiator.options.Open = func(context.Context, api.AttachRequest) (Volume, error) {
			return &fakeVolume{size: size}, nil
		}
		next.resume(t.Context(), next.adopted[0])
		f := next.frontend
		if f.resumed != want || f.abandoned != 1-want || want == 1 && f.size != testSize {
			t.Errorf("volume of %d: resumed %d with %d bytes, abandoned %d", size, f.resumed, f.size, f.abandoned)
		}
	}
}

func TestADeviceThatIsGoneIsDropped(t *testing.T) {
	socket := newHolder(t)
	first := newLife(t, socket, 1)
	garbage := holder.Item{Name: "b", State: []byte("garbage"), Files: []int{2}}
	if err := first.holding.keep(t.Context(), garbage); err != nil {
		t.Fatal(err)
	}
	first.die()
	for n := range 2 {
		next := newLife(t, socket, 2)
		if len(next.adopted) != 0 {
			t.Errorf("adopted garbage at try %d", n)
		}
		if left, err := next.holding.client.List(t.Context()); err != nil || len(left) != 0 {
			t.Errorf("the holder still has %v (%v)", left, err)
		}
		next.die()
	}
}

func TestADeviceThatSomebodyElseHasEndedIsNotResumed(t *testing.T) {
	socket := newHolder(t)
	diedAttached(t, socket, 1)
	next := newLife(t, socket, 2)
	next.frontend.confirm = fmt.Errorf("/dev/adopted: %w", attach.ErrGone)
	next.resume(t.Context(), next.adopted[0])
	if next.frontend.abandoned != 1 || next.frontend.resumed != 0 || len(next.opened) != 0 || len(next.table) != 0 {
		t.Errorf("abandoned %d, resumed %d, opened with %v", next.frontend.abandoned, next.frontend.resumed, next.opened)
	}
	next.die()
	if after := newLife(t, socket, 3); len(after.adopted) != 0 {
		t.Errorf("adopted %d devices, want none", len(after.adopted))
	}
}

func TestADeviceOfWhichNothingIsKnownIsResumedAndGivenToNobody(t *testing.T) {
	for name, prepare := range map[string]func(*fakeFrontend){
		"an error":  func(f *fakeFrontend) { f.confirm = errors.New("too many open files") },
		"no answer": func(f *fakeFrontend) { f.stuck = "a" },
	} {
		socket := newHolder(t)
		diedAttached(t, socket, 1)
		next := newLife(t, socket, 2)
		next.frontend.silent = make(chan struct{})
		prepare(next.frontend)
		next.resume(t.Context(), next.adopted[0])
		if next.frontend.resumed != 1 || !next.holding.holds("a") {
			t.Errorf("%s: resumed %d, abandoned %d", name, next.frontend.resumed, next.frontend.abandoned)
		}
		impatient, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		if a, err := next.Attach(impatient, request("a", step)); err == nil {
			t.Errorf("%s: got %+v, although nobody knows", name, a)
		}
		cancel()
		next.frontend.confirm = nil
		close(next.frontend.silent)
		if a, err := next.Attach(t.Context(), request("a", step)); err != nil || a.DevicePath != "/dev/adopted" {
			t.Errorf("%s: then got %+v, %v", name, a, err)
		}
	}
}

// slowCleaner does not end its CleanUp before a device has been resumed.
type slowCleaner struct {
	*fakeFrontend

	resumedOne chan struct{}
}

func (f slowCleaner) Resume(attach.Spec) error { close(f.resumedOne); return nil }

func (f slowCleaner) CleanUp(context.Context) error {
	select {
	case <-f.resumedOne:
		return nil
	case <-time.After(10 * time.Second):
		return errors.New("nothing was resumed meanwhile")
	}
}

func TestCleaningUpKeepsNoDeviceFromBeingResumed(t *testing.T) {
	holders := newHolder(t)
	first := newLife(t, holders, 1)
	if _, err := first.Attach(t.Context(), request("a", step)); err != nil {
		t.Fatal(err)
	}
	first.die()
	x := newFixture(t)
	o := x.options()
	o.Socket, o.Holder, o.Life = filepath.Join(t.TempDir(), "s"), holders, 2
	o.Frontends = []attach.Frontend{slowCleaner{x.frontend, make(chan struct{})}}
	var log bytes.Buffer
	o.Log = slog.New(slog.NewTextHandler(&log, nil))
	i, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- i.Run(ctx) }()
	for end := time.Now().Add(20 * time.Second); i.Ready() != nil && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	stop()
	if err := <-ended; err != nil || strings.Contains(log.String(), "Cannot clean up") {
		t.Errorf("run: %v, and it says %s", err, &log)
	}
}

func TestAnErrorThatSaysNothingDropsNoDevice(t *testing.T) {
	holders := newHolder(t)
	first := newLife(t, holders, 1)
	if _, err := first.Attach(t.Context(), request("a", step)); err != nil {
		t.Fatal(err)
	}
	first.die()
	x := newFixture(t)
	x.frontend.adopt = errors.New("too many open files")
	o := x.options()
	o.Socket, o.Holder, o.Life = filepath.Join(t.TempDir(), "s"), holders, 2
	i, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithTimeout(t.Context(), 10*time.Second)
	defer stop()
	if err := i.Run(ctx); !errors.Is(err, x.frontend.adopt) || x.frontend.cleanedUp != 0 {
		t.Errorf("ended with %v, cleaned up %d times", err, x.frontend.cleanedUp)
	}
	i.holding.lose(i.holding.client)
	if next := newLife(t, holders, 3); len(next.adopted) != 1 {
		t.Errorf("adopted %d devices, want 1", len(next.adopted))
	}
}

func TestAStartThatIsCancelledCleansNothingUp(t *testing.T) {
	holders := newHolder(t)
	first := newLife(t, holders, 1)
	if _, err := first.Attach(t.Context(), request("a", step)); err != nil {
		t.Fatal(err)
	}
	first.die()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	x := newFixture(t)
	o := x.options()
	o.Socket, o.Holder, o.Life = filepath.Join(t.TempDir(), "s"), holders, 2
	if err := Run(ctx, o); !errors.Is(err, context.Canceled) || x.frontend.cleanedUp != 0 {
		t.Errorf("ended with %v, cleaned up %d times", err, x.frontend.cleanedUp)
	}
	i, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	if adopted, err := i.takeOver(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("took over %d devices, %v", len(adopted), err)
	}
}

func TestAStartThatIsCancelledLeavesTheSocketOfALiveProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	live, err := listen(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = live.Close() }()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if l, err := listen(ctx, path); err == nil {
		_ = l.Close()
		t.Error("it listens")
	}
	if _, err := os.Stat(path); err != nil {
		t.Errorf("the socket: %v", err)
	}
}

func TestADeviceThatIsNotHeldIsTold(t *testing.T) {
	for name, tc := range map[string]struct {
		socket   string
		cannot   bool
		tells    string
		wantHeld bool
	}{
		"held":                  {newHolder(t), false, "", true},
		"no holder is wanted":   {"", false, "", false},
		"the holder is away":    {filepath.Join(t.TempDir(), "nobody"), false, "Not held", false},
		"the kernel is too old": {newHolder(t), true, "Linux 6.9", false},
	} {
		x := newLife(t, tc.socket, 1)
		var log bytes.Buffer
		x.Initiator.options.Log = slog.New(slog.NewTextHandler(&log, nil))
		x.frontend.cannotHold = tc.cannot
		if _, err := x.Attach(t.Context(), request("a", step)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		told := strings.Contains(log.String(), "Not held")
		if told != (tc.tells != "") || !strings.Contains(log.String(), tc.tells) || x.listed(t)[0].Held != tc.wantHeld {
			t.Errorf("%s: lists %+v, says %s", name, x.listed(t), &log)
		}
	}
}

func TestAHolderThatComesBackIsHandedEverything(t *testing.T) {
	x := newLife(t, filepath.Join(t.TempDir(), "nobody"), 1)
	if _, err := x.Attach(t.Context(), request("a", step)); err != nil {
		t.Fatalf("attach without a holder: %v", err)
	}
	if x.Health().Held != 0 || x.listed(t)[0].Held {
		t.Error("it says that a device is held, and nobody holds it")
	}
	x.holding.socket = newHolder(t)
	if err := x.holding.connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	if x.Health().Held != 1 || !x.listed(t)[0].Held {
		t.Error("the holder was not handed the device")
	}
	x.die()
	if next := newLife(t, x.holding.socket, 2); len(next.adopted) != 1 {
		t.Errorf("adopted %d devices, want 1", len(next.adopted))
	}
}

func TestWhatEndedWhileTheHolderWasOutOfReachIsDroppedLater(t *testing.T) {
	x := newLife(t, newHolder(t), 1)
	for _, name := range []string{"a", "b"} {
		if _, err := x.Attach(t.Context(), request(name, step)); err != nil {
			t.Fatal(err)
		}
	}
	x.die()
	for _, name := range []string{"a", "b"} {
		if err := x.Detach(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	// What is attached anew is kept.
	if _, err := x.Attach(t.Context(), request("b", step)); err != nil {
		t.Fatal(err)
	}
	if err := x.holding.connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	left, err := x.holding.client.List(t.Context())
	if err != nil || len(left) != 1 || left[0].Name != "b" || len(x.holding.owed) != 0 {
		t.Errorf("the holder has %+v (%v), %v are not dropped", left, err, x.holding.owed)
	}
	for n := range left {
		left[n].Close()
	}
	// A holder that has ended keeps nothing.
	x.die()
	if err := x.Detach(t.Context(), "b"); err != nil || len(x.holding.owed) != 1 {
		t.Errorf("detach: %v, %v are not dropped", err, x.holding.owed)
	}
	x.holding.socket = filepath.Join(t.TempDir(), "nobody")
	if err := x.holding.connect(t.Context()); !errors.Is(err, holder.ErrAway) || len(x.holding.owed) != 0 {
		t.Errorf("connect: %v, %v are not dropped", err, x.holding.owed)
	}
}

func TestWhoAsksForTheListDoesNotWaitForTheHolder(t *testing.T) {
	x := newLife(t, newHolder(t), 1)
	if _, err := x.Attach(t.Context(), request("a", step)); err != nil {
		t.Fatal(err)
	}
	// As a call of a holder that does not answer has it.
	x.holding.mu.Lock()
	defer x.holding.mu.Unlock()
	told := make(chan bool, 1)
	go func() {
		list, err := x.List(t.Context(), "")
		told <- err == nil && len(list) == 1 && list[0].Held && x.Health().Held == 1
	}()
	select {
	case held := <-told:
		if !held {
			t.Error("the device is not told as held")
		}
	case <-time.After(10 * time.Second):
		t.Error("nobody answers")
	}
}
