package initiator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/shale-storage/shale/csi/attach"
	"github.com/shale-storage/shale/csi/initiator/api"
)

const testSize = 1 << 20

// fakeVolume counts how often it was closed.
type fakeVolume struct {
	size      int64
	closed    int
	fenced    bool
	addresses []string
}

func (v *fakeVolume) Size() int64              { return v.size }
func (v *fakeVolume) Buffer(int) attach.Buffer { return nil }
func (v *fakeVolume) Submit(*attach.Request)   {}
func (v *fakeVolume) Kick()                    {}
func (v *fakeVolume) Fenced() bool             { return v.fenced }
func (v *fakeVolume) Addresses() []string      { return v.addresses }
func (v *fakeVolume) Close() error             { v.closed++; return nil }

// fakeFrontend numbers the devices it makes.
type fakeFrontend struct {
	made      int
	probe     error
	attach    error
	detach    error
	cleanedUp int
	adopt     error
	confirm   error
	// cannotHold as on an old kernel.
	cannotHold bool
	// resumed so often, the last time with a Volume of this size.
	resumed   int
	size      int64
	abandoned int
	// stuck is a volume that Confirm, asked so often, says nothing of before silent is closed.
	stuck  string
	asked  atomic.Int32
	silent chan struct{}
	// entered and proceed, if not nil, hold each Attach.
	entered, proceed chan struct{}
}

func (f *fakeFrontend) Name() string { return "fake" }
func (f *fakeFrontend) Probe() error { return f.probe }

func (f *fakeFrontend) Attach(context.Context, attach.Spec) (attach.Device, error) {
	if f.entered != nil {
		f.entered <- struct{}{}
		<-f.proceed
	}
	f.made++
	return attach.Device{Path: fmt.Sprintf("/dev/fake%d", f.made)}, f.attach
}

func (f *fakeFrontend) Detach(context.Context, string) error { return f.detach }
func (f *fakeFrontend) CleanUp(context.Context) error        { f.cleanedUp++; return nil }

func (f *fakeFrontend) Confirm(volume string) error {
	if volume == f.stuck {
		f.asked.Add(1)
		<-f.silent
	}
	return f.confirm
}

func (f *fakeFrontend) Held(volume string) (attach.Held, bool) {
	return attach.Held{State: []byte(volume), Files: []int{2}}, !f.cannotHold
}

func (f *fakeFrontend) Adopt(volume string, h attach.Held) (attach.Device, error) {
	if string(h.State) != volume || len(h.Files) != 1 {
		return attach.Device{}, fmt.Errorf("adopt %s: got %+v", volume, h)
	}
	return attach.Device{Path: "/dev/adopted"}, f.adopt
}

func (f *fakeFrontend) Resume(s attach.Spec) error {
	f.resumed++
	f.size = s.Backend.Size()
	return nil
}

func (f *fakeFrontend) Abandon(string) error { f.abandoned++; return nil }

// fixture is an Initiator over fakes; volumes are those that were opened.
type fixture struct {
	*Initiator
	frontend *fakeFrontend
	volumes  []*fakeVolume
	open     error
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	x := &fixture{frontend: &fakeFrontend{}}
	i, err := New(x.options())
	if err != nil {
		t.Fatal(err)
	}
	x.Initiator = i
	return x
}

func (x *fixture) options() Options {
	return Options{
		Node: "n1", Frontends: []attach.Frontend{x.frontend}, MaxVolumes: 2, Log: slog.New(slog.DiscardHandler),
		Open: func(context.Context, api.AttachRequest) (Volume, error) {
			if x.open != nil {
				return nil, x.open
			}
			v := &fakeVolume{size: testSize}
			x.volumes = append(x.volumes, v)
			return v, nil
		},
	}
}

func request(volume string, generation uint64) api.AttachRequest {
	return api.AttachRequest{
		Volume: volume, ID: "0b0e7f6e-8c3f-4b8f-9d5e-0123456789ab", SizeBytes: testSize, Generation: generation,
		Addresses: []string{"10.0.0.1:7800"},
	}
}

// listed is what List tells of all volumes.
func (x *fixture) listed(t *testing.T) []api.Attachment {
	t.Helper()
	list, err := x.List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func wantCode(t *testing.T, err error, want api.Code) {
	t.Helper()
	if err == nil || api.CodeOf(err) != want {
		t.Errorf("error %v has code %s, want %s", err, api.CodeOf(err), want)
	}
}

func TestTheSameRequestGetsTheSameDevice(t *testing.T) {
	x := newFixture(t)
	first, err := x.Attach(t.Context(), request("a", 1))
	if err != nil {
		t.Fatal(err)
	}
	second, err := x.Attach(t.Context(), request("a", 1))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(first, second); diff != "" || x.frontend.made != 1 {
		t.Errorf("%d devices made; second differs:\n%s", x.frontend.made, diff)
	}
	if diff := cmp.Diff([]api.Attachment{first}, x.listed(t)); diff != "" {
		t.Errorf("list:\n%s", diff)
	}
}

func TestAHigherGenerationReplacesTheDevice(t *testing.T) {
	x := newFixture(t)
	if _, err := x.Attach(t.Context(), request("a", 1)); err != nil {
		t.Fatal(err)
	}
	got, err := x.Attach(t.Context(), request("a", 2))
	if err != nil {
		t.Fatal(err)
	}
	if got.DevicePath != "/dev/fake2" || got.Generation != 2 || x.volumes[0].closed != 1 {
		t.Errorf("got %+v, old volume closed %d times", got, x.volumes[0].closed)
	}
}

func TestADeviceThatIsHalfEndedIsGivenToNobody(t *testing.T) {
	x := newFixture(t)
	if _, err := x.Attach(t.Context(), request("v", 1)); err != nil {
		t.Fatal(err)
	}
	x.frontend.detach = errors.New("requests in flight")
	wantCode(t, x.Detach(t.Context(), "v"), api.CodeInternal)
	if list := x.listed(t); len(list) != 0 {
		t.Errorf("listed is %v", list)
	}
	if a, err := x.Attach(t.Context(), request("v", 1)); err == nil {
		t.Errorf("the same request got %v", a)
	}
	x.frontend.detach = nil
	a, err := x.Attach(t.Context(), request("v", 1))
	if err != nil || a.DevicePath != "/dev/fake2" || len(x.listed(t)) != 1 {
		t.Errorf("when the rest could be ended: got %v, %v", a, err)
	}
	if x.volumes[0].closed != 1 || x.volumes[1].closed != 0 {
		t.Errorf("closed %d and %d times", x.volumes[0].closed, x.volumes[1].closed)
	}
}

func TestAFencedDeviceSaysSoAndIsReplacedByAHigherGenerationOnly(t *testing.T) {
	x := newFixture(t)
	if _, err := x.Attach(t.Context(), request("a", 1)); err != nil {
		t.Fatal(err)
	}
	x.volumes[0].fenced = true
	if list := x.listed(t); len(list) != 1 || !list[0].Fenced {
		t.Errorf("listed is %+v", list)
	}
	x.frontend.detach = attach.ErrBusy
	_, err := x.Attach(t.Context(), request("a", 1))
	wantCode(t, err, api.CodeFenced)
	if list := x.listed(t); len(list) != 1 || !list[0].Fenced || x.volumes[0].closed != 0 {
		t.Errorf("in use, and listed is %+v; closed %d times", list, x.volumes[0].closed)
	}
	x.frontend.detach = nil
	a, err := x.Attach(t.Context(), request("a", 2))
	if err != nil || a.DevicePath != "/dev/fake2" || x.listed(t)[0].Fenced {
		t.Errorf("the newer attachment got %+v, %v; listed is %+v", a, err, x.listed(t))
	}
}

func TestAFencedDeviceThatNobodyUsesDoesNotStay(t *testing.T) {
	x := newFixture(t)
	if _, err := x.Attach(t.Context(), request("a", 1)); err != nil {
		t.Fatal(err)
	}
	x.volumes[0].fenced = true
	_, err := x.Attach(t.Context(), request("a", 1))
	wantCode(t, err, api.CodeFenced)
	if list := x.listed(t); len(list) != 0 || len(x.table) != 0 || x.volumes[0].closed != 1 || len(x.volumes) != 1 {
		t.Errorf("listed is %+v, of %d opened; closed %d times", list, len(x.volumes), x.volumes[0].closed)
	}
}

func TestADeviceThatSomebodyElseHasEndedIsGivenToNobody(t *testing.T) {
	x := newFixture(t)
	for _, name := range []string{"v", "w"} {
		if _, err := x.Attach(t.Context(), request(name, 1)); err != nil {
			t.Fatal(err)
		}
	}
	if list, err := x.List(t.Context(), "w"); err != nil || len(list) != 1 || list[0].Volume != "w" {
		t.Errorf("of w alone: %v, %v", list, err)
	}
	x.frontend.confirm = fmt.Errorf("/dev/fake1: %w", attach.ErrGone)
	if list := x.listed(t); len(list) != 0 {
		t.Errorf("listed is %v", list)
	}
	a, err := x.Attach(t.Context(), request("v", 1))
	if err != nil || a.DevicePath != "/dev/fake3" || x.volumes[0].closed != 1 {
		t.Errorf("the same request got %+v, %v; old volume closed %d times", a, err, x.volumes[0].closed)
	}
	x.frontend.confirm = errors.New("too many open files")
	if list, err := x.List(t.Context(), "v"); err == nil {
		t.Errorf("listed is %v, although nobody knows", list)
	}
	if list := x.listed(t); len(list) != 0 {
		t.Errorf("of all, those of which nobody knows are %v", list)
	}
	if a, err := x.Attach(t.Context(), request("v", 1)); err == nil || x.frontend.made != 3 {
		t.Errorf("got %+v, although nobody knows; made %d", a, x.frontend.made)
	}
}

func TestADeviceOfWhichTheKernelSaysNothingHindersNobodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newFixture(t)
		for _, name := range []string{"v", "w"} {
			if _, err := x.Attach(t.Context(), request(name, 1)); err != nil {
				t.Fatal(err)
			}
		}
		x.frontend.stuck, x.frontend.silent = "v", make(chan struct{})
		for range 3 {
			if list := x.listed(t); len(list) != 1 || list[0].Volume != "w" {
				t.Errorf("listed is %v, want w", list)
			}
			_, err := x.List(t.Context(), "v")
			wantCode(t, err, api.CodeBusy)
			_, err = x.Attach(t.Context(), request("v", 1))
			wantCode(t, err, api.CodeBusy)
		}
		if got := x.frontend.asked.Load(); got != 1 {
			t.Errorf("the kernel was asked %d times, want once", got)
		}
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		if list, err := x.List(gone, ""); !errors.Is(err, context.Canceled) {
			t.Errorf("a caller that has gone got %v, %v", list, err)
		}
		close(x.frontend.silent)
		synctest.Wait()
		if list := x.listed(t); len(list) != 2 {
			t.Errorf("listed is %v, want both", list)
		}
	})
}

func TestAHigherGenerationWaitsForADeviceInUse(t *testing.T) {
	x := newFixture(t)
	if _, err := x.Attach(t.Context(), request("a", 1)); err != nil {
		t.Fatal(err)
	}
	x.frontend.detach = attach.ErrBusy
	_, err := x.Attach(t.Context(), request("a", 2))
	wantCode(t, err, api.CodeBusy)
	if list := x.listed(t); len(list) != 1 || list[0].Generation != 1 || x.volumes[0].closed != 0 {
		t.Errorf("after the refusal %+v is attached, volume closed %d times", list, x.volumes[0].closed)
	}
}

func TestRequestsThatContradictTheAttachmentAreRefused(t *testing.T) {
	x := newFixture(t)
	if _, err := x.Attach(t.Context(), request("a", 5)); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		change func(*api.AttachRequest)
		want   api.Code
	}{
		"lower generation": {func(r *api.AttachRequest) { r.Generation = 4 }, api.CodeFenced},
		"other id": {func(r *api.AttachRequest) {
			r.ID = strings.Replace(r.ID, "0b", "1b", 1)
		}, api.CodeConflict},
		"read only":      {func(r *api.AttachRequest) { r.ReadOnly = true }, api.CodeConflict},
		"other size":     {func(r *api.AttachRequest) { r.SizeBytes *= 2 }, api.CodeConflict},
		"other frontend": {func(r *api.AttachRequest) { r.Frontend = "loop" }, api.CodeConflict},
		"bad name":       {func(r *api.AttachRequest) { r.Volume = "../a" }, api.CodeInvalid},
		"no addresses":   {func(r *api.AttachRequest) { r.Addresses = nil }, api.CodeInvalid},
		"no generation":  {func(r *api.AttachRequest) { r.Generation = 0 }, api.CodeInvalid},
		"odd size":       {func(r *api.AttachRequest) { r.SizeBytes = 4097 }, api.CodeInvalid},
		"no uuid":        {func(r *api.AttachRequest) { r.ID = "a" }, api.CodeInvalid},
	} {
		r := request("a", 5)
		tc.change(&r)
		_, err := x.Attach(t.Context(), r)
		if api.CodeOf(err) != tc.want || err == nil {
			t.Errorf("%s: %v has code %s, want %s", name, err, api.CodeOf(err), tc.want)
		}
	}
}

func TestAFailedAttachLeavesNothing(t *testing.T) {
	x := newFixture(t)
	x.open = api.Errorf(api.CodeUnreachable, "no address answers")
	_, err := x.Attach(t.Context(), request("a", 1))
	wantCode(t, err, api.CodeUnreachable)

	x.open, x.frontend.attach = nil, errors.New("no free loop device")
	_, err = x.Attach(t.Context(), request("a", 1))
	wantCode(t, err, api.CodeInternal)

	x.frontend.attach = nil
	r := request("a", 1)
	r.SizeBytes *= 2
	_, err = x.Attach(t.Context(), r)
	wantCode(t, err, api.CodeInvalid)

	x.frontend.probe = errors.New("no /dev/fuse")
	_, err = x.Attach(t.Context(), request("a", 1))
	wantCode(t, err, api.CodeInternal)
	if len(x.listed(t)) != 0 || len(x.table) != 0 {
		t.Errorf("failed calls left %d entries", len(x.table))
	}
	for n, v := range x.volumes {
		if v.closed != 1 {
			t.Errorf("volume %d was closed %d times, want once", n, v.closed)
		}
	}
}

func TestASecondCallForABusyVolumeIsRefusedAtOnce(t *testing.T) {
	x := newFixture(t)
	x.frontend.entered, x.frontend.proceed = make(chan struct{}), make(chan struct{})
	done := make(chan error)
	go func() {
		_, err := x.Attach(context.Background(), request("a", 1))
		done <- err
	}()
	<-x.frontend.entered
	_, err := x.Attach(t.Context(), request("a", 1))
	wantCode(t, err, api.CodeBusy)
	wantCode(t, x.Detach(t.Context(), "a"), api.CodeBusy)
	close(x.frontend.proceed)
	if err := <-done; err != nil {
		t.Errorf("first call: %v", err)
	}
}

func TestTheLimitOfVolumesHolds(t *testing.T) {
	x := newFixture(t)
	for _, name := range []string{"a", "b"} {
		if _, err := x.Attach(t.Context(), request(name, 1)); err != nil {
			t.Fatal(err)
		}
	}
	_, err := x.Attach(t.Context(), request("c", 1))
	wantCode(t, err, api.CodeLimit)
	if err := x.Detach(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	if _, err := x.Attach(t.Context(), request("c", 1)); err != nil {
		t.Errorf("attach after a detach made room: %v", err)
	}
}

func TestADetachClosesTheVolumeOnceAndIsIdempotent(t *testing.T) {
	x := newFixture(t)
	if _, err := x.Attach(t.Context(), request("a", 1)); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := x.Detach(t.Context(), "a"); err != nil {
			t.Errorf("detach: %v", err)
		}
	}
	if x.volumes[0].closed != 1 || len(x.listed(t)) != 0 {
		t.Errorf("closed %d times, list %v", x.volumes[0].closed, x.listed(t))
	}
}

func TestTheSocketSpeaksTheAPIAndStopsCleanly(t *testing.T) {
	x := newFixture(t)
	o := x.options()
	o.Socket = filepath.Join(t.TempDir(), "run", "initiator.sock")
	ctx, stop := context.WithCancel(t.Context())
	// A listener made before Run would be another one; so ask until it answers.
	done := make(chan error, 1)
	go func() { done <- Run(ctx, o) }()
	c := api.NewClient(o.Socket)
	for _, err := c.Health(t.Context()); err != nil; _, err = c.Health(t.Context()) {
		select {
		case err := <-done:
			t.Fatalf("it has ended before it served: %v", err)
		case <-time.After(time.Millisecond):
		}
	}
	got, err := c.Attach(t.Context(), request("a", 1))
	if err != nil || got.DevicePath != "/dev/fake1" {
		t.Errorf("attach: %+v, %v", got, err)
	}
	_, err = c.Attach(t.Context(), api.AttachRequest{Volume: "a"})
	wantCode(t, err, api.CodeInvalid)
	if err := Run(t.Context(), o); err == nil {
		t.Error("a second initiator started on the same socket")
	}
	list, err := c.List(t.Context(), "")
	if diff := cmp.Diff([]api.Attachment{got}, list); diff != "" || err != nil {
		t.Errorf("list: %v\n%s", err, diff)
	}
	if err := c.Detach(t.Context(), "a"); err != nil {
		t.Errorf("detach: %v", err)
	}
	stop()
	if err := <-done; err != nil {
		t.Errorf("run: %v", err)
	}
	if x.frontend.cleanedUp != 1 {
		t.Errorf("cleaned up %d times, want once", x.frontend.cleanedUp)
	}
}

// TestCallsThatWaitDoNotKeepOthersOut: one for each volume, and then the question whether the initiator works.
func TestCallsThatWaitDoNotKeepOthersOut(t *testing.T) {
	const volumes = 2 * spareConnections
	x := newFixture(t)
	o := x.options()
	o.Socket, o.MaxVolumes = filepath.Join(t.TempDir(), "initiator.sock"), volumes
	entered, proceed := make(chan struct{}), make(chan struct{})
	o.Open = func(context.Context, api.AttachRequest) (Volume, error) {
		entered <- struct{}{}
		<-proceed
		return nil, api.Errorf(api.CodeUnreachable, "no storenode answers")
	}
	i, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := i.Ready(); err == nil {
		t.Error("it is ready before it serves")
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1+volumes)
	go func() { ended <- i.Run(ctx) }()
	for i.Ready() != nil {
		select {
		case err := <-ended:
			t.Fatalf("it has ended before it served: %v", err)
		case <-time.After(time.Millisecond):
		}
	}
	asking, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	c := api.NewClient(o.Socket)
	for n := range volumes {
		go func() {
			_, err := c.Attach(ctx, request(fmt.Sprintf("v%d", n), 1))
			if api.CodeOf(err) == api.CodeUnreachable {
				err = nil
			}
			ended <- err
		}()
		select {
		case <-entered:
		case <-asking.Done():
			t.Fatalf("only %d calls are let in", n)
		}
	}
	if _, err := c.Health(asking); err != nil || i.Ready() != nil {
		t.Errorf("health: %v, ready: %v", err, i.Ready())
	}
	close(proceed)
	for range volumes {
		if err := <-ended; err != nil {
			t.Errorf("attach: %v", err)
		}
	}
	stop()
	if err := <-ended; err != nil || i.Ready() == nil {
		t.Errorf("run: %v; ready afterwards: %v", err, i.Ready())
	}
}

func TestTheHandlerRefusesWhatItDoesNotKnow(t *testing.T) {
	x := newFixture(t)
	h := api.NewHandler(x)
	for name, body := range map[string]string{
		"unknown field": `{"volume":"a","shared":true}`,
		"garbage":       `{`,
		"oversized":     `{"volume":"` + strings.Repeat("a", api.MaxBody) + `"}`,
		"path":          `{"volume":"../../etc"}`,
	} {
		for _, path := range []string{api.PathAttach, api.PathDetach} {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, path, strings.NewReader(body)))
			if w.Code != http.StatusBadRequest {
				t.Errorf("%s with %s: status %d, want %d", path, name, w.Code, http.StatusBadRequest)
			}
		}
	}
}
