package driver

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/shale-storage/shale/csi/initiator/api"
	"github.com/shale-storage/shale/csi/mounter"
)

// fakeInitiator attaches without devices.
type fakeInitiator struct {
	attached map[string]api.Attachment
	calls    int
	fail     error
	// away is what List fails with.
	away error
	// device of the next attachment; empty for one named after the volume.
	device string
	// failDetach is what Detach alone fails with.
	failDetach error
	// inUse says whether a device has openers, which keep it from being replaced.
	inUse func(device string) bool
}

func (f *fakeInitiator) Attach(_ context.Context, r api.AttachRequest) (api.Attachment, error) {
	f.calls++
	if f.fail != nil {
		return api.Attachment{}, f.fail
	}
	if old, found := f.attached[r.Volume]; found && r.Generation > old.Generation && f.inUse(old.DevicePath) {
		return api.Attachment{}, api.Errorf(api.CodeBusy, "device %s is in use", old.DevicePath)
	}
	a := api.Attachment{
		Volume: r.Volume, Generation: r.Generation, ReadOnly: r.ReadOnly, DevicePath: "/dev/fake-" + r.Volume,
	}
	if f.device != "" {
		a.DevicePath = f.device
	}
	f.attached[r.Volume] = a
	return a, nil
}

func (f *fakeInitiator) Detach(_ context.Context, volume string) error {
	if f.fail == nil && f.failDetach == nil {
		delete(f.attached, volume)
	}
	return errors.Join(f.fail, f.failDetach)
}

func (f *fakeInitiator) List(context.Context, string) ([]api.Attachment, error) {
	return slices.Collect(maps.Values(f.attached)), f.away
}

// fakeMounter keeps a mount table of its own: target to source, and the log of what changed it.
type fakeMounter struct {
	mounts    map[string]string
	corrupted map[string]bool
	readOnly  map[string]bool
	// turned read-only by itself.
	turned map[string]bool
	log    []string
	fail   error
}

func (f *fakeMounter) MountFilesystem(fs mounter.Filesystem) error {
	if f.fail != nil {
		return f.fail
	}
	f.log = append(f.log, "mount "+fs.Type+" "+fs.Device+" "+fs.Target)
	f.mounts[fs.Target] = fs.Device
	return nil
}

func (f *fakeMounter) BindDirectory(source, target string, options []string) error {
	f.log = append(f.log, append([]string{"bind " + source + " " + target}, options...)...)
	f.mounts[target], f.readOnly[target] = f.mounts[source], slices.Contains(options, "ro")
	return nil
}

func (f *fakeMounter) BindDevice(source, target string, options []string) error {
	f.log = append(f.log, append([]string{"bind " + source + " " + target}, options...)...)
	f.mounts[target], f.readOnly[target] = source, slices.Contains(options, "ro")
	return nil
}

func (f *fakeMounter) Targets(device string) ([]string, error) {
	var targets []string
	for target, mounted := range f.mounts {
		if mounted == device {
			targets = append(targets, target)
		}
	}
	return targets, nil
}

func (f *fakeMounter) Source(target string) (string, error) { return f.mounts[target], nil }
func (f *fakeMounter) IsCorrupted(target string) bool       { return f.corrupted[target] }

func (f *fakeMounter) IsReadOnly(target string) (bool, error) { return f.readOnly[target], nil }

func (f *fakeMounter) TurnedReadOnly(target string) (bool, error) { return f.turned[target], nil }

func (f *fakeMounter) IsSameDevice(a, b string) bool { return f.mounts[b] == a }

func (f *fakeMounter) Unmount(target string) error {
	if f.mounts[target] != "" {
		f.log = append(f.log, "unmount "+target)
	}
	delete(f.mounts, target)
	delete(f.corrupted, target)
	delete(f.turned, target)
	return nil
}

func (f *fakeMounter) Usage(path string) (mounter.Usage, error) {
	switch f.mounts[path] {
	case "":
		return mounter.Usage{}, os.ErrNotExist
	case "/dev/fake-block":
		return mounter.Usage{TotalBytes: 4096, Block: true}, nil
	}
	return mounter.Usage{
		TotalBytes: 10, UsedBytes: 4, AvailableBytes: 6, TotalInodes: 3, UsedInodes: 1, AvailableInodes: 2,
	}, nil
}

// fakeLocks is a set.
type fakeLocks map[string]bool

func (f fakeLocks) TryAcquire(key string) bool {
	if f[key] {
		return false
	}
	f[key] = true
	return true
}

func (f fakeLocks) Release(key string) { delete(f, key) }

type nodeFixture struct {
	*Node
	initiator *fakeInitiator
	mounter   *fakeMounter
	locks     fakeLocks
}

func newNodeFixture() *nodeFixture {
	x := &nodeFixture{
		initiator: &fakeInitiator{attached: map[string]api.Attachment{}},
		mounter: &fakeMounter{
			mounts: map[string]string{}, corrupted: map[string]bool{}, readOnly: map[string]bool{}, turned: map[string]bool{},
		},
		locks: fakeLocks{},
	}
	x.initiator.inUse = func(device string) bool {
		return slices.Contains(slices.Collect(maps.Values(x.mounter.mounts)), device)
	}
	x.Node = NewNode(NodeOptions{
		Node: "n1", MaxVolumes: 5, Initiator: x.initiator, Mounter: x.mounter, Locks: x.locks,
		Topology: map[string]string{"zone": "z"},
	})
	return x
}

func mountCapability(fsType string) *csi.VolumeCapability {
	return &csi.VolumeCapability{
		AccessType: &csi.VolumeCapability_Mount{Mount: &csi.VolumeCapability_MountVolume{FsType: fsType}},
		AccessMode: &csi.VolumeCapability_AccessMode{Mode: csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER},
	}
}

func blockCapability() *csi.VolumeCapability {
	c := mountCapability("")
	c.AccessType = &csi.VolumeCapability_Block{Block: &csi.VolumeCapability_BlockVolume{}}
	return c
}

func stageRequest(c *csi.VolumeCapability) *csi.NodeStageVolumeRequest {
	return &csi.NodeStageVolumeRequest{
		VolumeId: "v", StagingTargetPath: "/stage/v", VolumeCapability: c,
		PublishContext: publishContext{
			VolumeID: "0b0e7f6e-8c3f-4b8f-9d5e-0123456789ab", SizeBytes: 4096, Generation: 3,
			Addresses: []string{"10.0.0.1:7800", "10.0.0.2:7800"},
		}.encode(),
	}
}

func publishRequest(c *csi.VolumeCapability) *csi.NodePublishVolumeRequest {
	return &csi.NodePublishVolumeRequest{
		VolumeId: "v", StagingTargetPath: "/stage/v", TargetPath: "/pod/v", VolumeCapability: c,
	}
}

func (x *nodeFixture) mustStage(t *testing.T, c *csi.VolumeCapability) {
	t.Helper()
	if _, err := x.NodeStageVolume(t.Context(), stageRequest(c)); err != nil {
		t.Fatalf("stage: %v", err)
	}
}

func (x *nodeFixture) mustPublish(t *testing.T, r *csi.NodePublishVolumeRequest) {
	t.Helper()
	if _, err := x.NodePublishVolume(t.Context(), r); err != nil {
		t.Fatalf("publish: %v", err)
	}
}

func (x *nodeFixture) wantLog(t *testing.T, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, x.mounter.log); diff != "" {
		t.Errorf("mount log (-want +got):\n%s", diff)
	}
}

func wantStatus(t *testing.T, what string, err error, want codes.Code) {
	t.Helper()
	if status.Code(err) != want {
		t.Errorf("%s: %v, want code %s", what, err, want)
	}
}

func TestAFileSystemGoesThroughItsLifeTwiceAtEachStep(t *testing.T) {
	x := newNodeFixture()
	for range 2 {
		x.mustStage(t, mountCapability("xfs"))
	}
	for range 2 {
		x.mustPublish(t, publishRequest(mountCapability("xfs")))
	}
	for range 2 {
		if _, err := x.NodeUnpublishVolume(t.Context(),
			&csi.NodeUnpublishVolumeRequest{VolumeId: "v", TargetPath: "/pod/v"}); err != nil {
			t.Fatalf("unpublish: %v", err)
		}
	}
	for range 2 {
		if _, err := x.NodeUnstageVolume(t.Context(),
			&csi.NodeUnstageVolumeRequest{VolumeId: "v", StagingTargetPath: "/stage/v"}); err != nil {
			t.Fatalf("unstage: %v", err)
		}
	}
	x.wantLog(t, "mount xfs /dev/fake-v /stage/v", "bind /stage/v /pod/v", "unmount /pod/v", "unmount /stage/v")
	if len(x.initiator.attached) != 0 || len(x.locks) != 0 {
		t.Errorf("left attached %v, locked %v", x.initiator.attached, x.locks)
	}
}

func TestABlockVolumeIsBoundFromItsDevice(t *testing.T) {
	x := newNodeFixture()
	x.mustStage(t, blockCapability())
	r := publishRequest(blockCapability())
	r.Readonly = true
	for range 2 {
		x.mustPublish(t, r)
	}
	x.wantLog(t, "bind /dev/fake-v /pod/v", "ro")
}

func TestAPodThatMayOnlyReadIsNotGivenAMountThatCanBeWritten(t *testing.T) {
	for _, c := range []*csi.VolumeCapability{mountCapability(""), blockCapability()} {
		x := newNodeFixture()
		x.mustStage(t, c)
		r := publishRequest(c)
		r.Readonly = true
		x.mustPublish(t, r)
		// As it is when the plugin is killed between the bind and its remount.
		x.mounter.readOnly["/pod/v"], x.mounter.log = false, nil
		for range 2 {
			x.mustPublish(t, r)
		}
		if !x.mounter.readOnly["/pod/v"] || len(x.mounter.log) != 3 {
			t.Errorf("%v: read-only is %v; done was %v", c, x.mounter.readOnly, x.mounter.log)
		}
	}
}

func TestAMountOfAnOldOrDeadDeviceIsReplaced(t *testing.T) {
	x := newNodeFixture()
	x.mounter.mounts["/stage/v"] = "/dev/old"
	x.mustStage(t, mountCapability(""))
	x.mounter.corrupted["/stage/v"] = true
	x.mustStage(t, mountCapability(""))
	x.wantLog(t, "unmount /stage/v", "mount ext4 /dev/fake-v /stage/v",
		"unmount /stage/v", "mount ext4 /dev/fake-v /stage/v")
}

func TestPublishingWhatIsNotStagedIsRefused(t *testing.T) {
	x := newNodeFixture()
	_, err := x.NodePublishVolume(t.Context(), publishRequest(mountCapability("")))
	wantStatus(t, "not attached", err, codes.FailedPrecondition)
	x.mustStage(t, mountCapability(""))
	delete(x.mounter.mounts, "/stage/v")
	_, err = x.NodePublishVolume(t.Context(), publishRequest(mountCapability("")))
	wantStatus(t, "staging directory without a mount", err, codes.FailedPrecondition)
}

func TestTheNextPodGetsADeviceInPlaceOfOneThatWasLost(t *testing.T) {
	for _, c := range []*csi.VolumeCapability{mountCapability(""), blockCapability()} {
		x := newNodeFixture()
		x.mustStage(t, c)
		r := publishRequest(c)
		x.mustPublish(t, r)
		// Initiator and holder die, and with them the device; the mounts stay.
		x.initiator.attached, x.initiator.device = map[string]api.Attachment{}, "/dev/fresh"
		r.TargetPath = "/pod/next"
		r.PublishContext = stageRequest(c).GetPublishContext()
		for range 2 {
			x.mustPublish(t, r)
		}
		if got := x.mounter.mounts["/pod/next"]; got != "/dev/fresh" || x.mounter.mounts["/pod/v"] != "/dev/fake-v" {
			t.Errorf("%v: mounts are %v", c, x.mounter.mounts)
		}
		if x.initiator.calls != 2 {
			t.Errorf("%v: attached %d times", c, x.initiator.calls)
		}
	}
}

func TestTheNextPodGetsAFilesystemInPlaceOfOneThatHasFailed(t *testing.T) {
	for name, fail := range map[string]func(*fakeMounter) map[string]bool{
		"shut down":        func(f *fakeMounter) map[string]bool { return f.corrupted },
		"turned read-only": func(f *fakeMounter) map[string]bool { return f.turned },
	} {
		x := newNodeFixture()
		c := mountCapability("xfs")
		x.mustStage(t, c)
		r := publishRequest(c)
		x.mustPublish(t, r)
		failed := fail(x.mounter)
		failed["/stage/v"], failed["/pod/v"] = true, true
		r.TargetPath = "/pod/next"
		r.PublishContext = stageRequest(c).GetPublishContext()
		x.mounter.log = nil
		_, err := x.NodePublishVolume(t.Context(), r)
		wantStatus(t, name+": a pod has it", err, codes.Aborted)
		x.wantLog(t)
		if _, err := x.NodeUnpublishVolume(t.Context(),
			&csi.NodeUnpublishVolumeRequest{VolumeId: "v", TargetPath: "/pod/v"}); err != nil {
			t.Fatalf("unpublish: %v", err)
		}
		x.mustPublish(t, r)
		x.wantLog(t, "unmount /pod/v", "unmount /stage/v", "mount xfs /dev/fake-v /stage/v", "bind /stage/v /pod/next")
	}
}

// anew is the publish context of the attachment after that of stageRequest.
func anew(c *csi.VolumeCapability) map[string]string {
	m := stageRequest(c).GetPublishContext()
	m[keyGeneration] = "4"
	return m
}

func TestTheDeviceOfAnEarlierAttachmentIsReplacedWhenItsPodHasGone(t *testing.T) {
	for _, c := range []*csi.VolumeCapability{mountCapability(""), blockCapability()} {
		x := newNodeFixture()
		x.mustStage(t, c)
		old := publishRequest(c)
		x.mustPublish(t, old)
		// The node is cut off, and the volume moves away and comes back.
		x.initiator.device = "/dev/fresh"
		next := publishRequest(c)
		next.TargetPath, next.PublishContext = "/pod/next", anew(c)
		_, err := x.NodePublishVolume(t.Context(), next)
		wantStatus(t, "the former pod still has it", err, codes.Aborted)
		if got := x.mounter.mounts; got["/pod/next"] != "" || got["/pod/v"] != "/dev/fake-v" {
			t.Errorf("%v: mounts are %v", c, got)
		}
		if _, err := x.NodeUnpublishVolume(t.Context(),
			&csi.NodeUnpublishVolumeRequest{VolumeId: "v", TargetPath: old.GetTargetPath()}); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			x.mustPublish(t, next)
		}
		if got := x.mounter.mounts; got["/pod/next"] != "/dev/fresh" || x.initiator.inUse("/dev/fake-v") {
			t.Errorf("%v: mounts are %v", c, got)
		}
		next.PublishContext = stageRequest(c).GetPublishContext()
		x.initiator.fail = api.Errorf(api.CodeFenced, "late")
		_, err = x.NodePublishVolume(t.Context(), next)
		wantStatus(t, "a late call of the former attachment", err, codes.FailedPrecondition)
	}
}

func TestStagingAnewTakesTheMountOfAnEarlierAttachmentAway(t *testing.T) {
	x := newNodeFixture()
	c := mountCapability("")
	x.mustStage(t, c)
	x.mustPublish(t, publishRequest(c))
	x.initiator.device = "/dev/fresh"
	r := stageRequest(c)
	r.PublishContext = anew(c)
	_, err := x.NodeStageVolume(t.Context(), r)
	wantStatus(t, "the former pod still has it", err, codes.Aborted)
	delete(x.mounter.mounts, "/pod/v")
	x.mounter.log = nil
	for range 2 {
		if _, err := x.NodeStageVolume(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	x.wantLog(t, "unmount /stage/v", "mount ext4 /dev/fresh /stage/v")
}

func TestABusyVolumeAnswersAborted(t *testing.T) {
	x := newNodeFixture()
	x.locks["v"] = true
	_, err := x.NodeStageVolume(t.Context(), stageRequest(mountCapability("")))
	wantStatus(t, "stage", err, codes.Aborted)
	_, err = x.NodePublishVolume(t.Context(), publishRequest(mountCapability("")))
	wantStatus(t, "publish", err, codes.Aborted)
	_, err = x.NodeUnpublishVolume(t.Context(), &csi.NodeUnpublishVolumeRequest{VolumeId: "v", TargetPath: "/p"})
	wantStatus(t, "unpublish", err, codes.Aborted)
	_, err = x.NodeUnstageVolume(t.Context(), &csi.NodeUnstageVolumeRequest{VolumeId: "v", StagingTargetPath: "/s"})
	wantStatus(t, "unstage", err, codes.Aborted)
}

func TestErrorsOfTheInitiatorKeepTheirMeaning(t *testing.T) {
	for code, want := range map[api.Code]codes.Code{
		api.CodeInvalid: codes.InvalidArgument, api.CodeBusy: codes.Aborted, api.CodeConflict: codes.FailedPrecondition,
		api.CodeFenced: codes.FailedPrecondition, api.CodeUnreachable: codes.Unavailable, "Newer": codes.Internal,
		api.CodeUnknownVolume: codes.NotFound, api.CodeLimit: codes.ResourceExhausted, api.CodeInternal: codes.Internal,
	} {
		x := newNodeFixture()
		x.initiator.fail = api.Errorf(code, "no")
		_, err := x.NodeStageVolume(t.Context(), stageRequest(mountCapability("")))
		wantStatus(t, string(code), err, want)
	}
	away := api.NewClient(filepath.Join(t.TempDir(), "none.sock"))
	n := NewNode(NodeOptions{Initiator: away, Mounter: &fakeMounter{}, Locks: fakeLocks{}})
	_, err := n.NodeStageVolume(t.Context(), stageRequest(mountCapability("")))
	wantStatus(t, "initiator away", err, codes.Unavailable)
	late, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = n.NodeUnstageVolume(late, &csi.NodeUnstageVolumeRequest{VolumeId: "v", StagingTargetPath: "/stage/v"})
	wantStatus(t, "caller has gone", err, codes.Canceled)
	x := newNodeFixture()
	for _, fail := range []error{mounter.ErrNotBlank, mounter.ErrUnfinished} {
		x.mounter.fail = fail
		_, err = x.NodeStageVolume(t.Context(), stageRequest(mountCapability("")))
		wantStatus(t, fail.Error(), err, codes.FailedPrecondition)
	}
}

func TestWhatCannotBeMountedIsDetachedUnlessItIsInUse(t *testing.T) {
	x := newNodeFixture()
	x.mounter.fail = mounter.ErrFilesystemType
	_, err := x.NodeStageVolume(t.Context(), stageRequest(mountCapability("")))
	wantStatus(t, "mount fails", err, codes.FailedPrecondition)
	if len(x.initiator.attached) != 0 {
		t.Errorf("the kubelet takes %v for the end of it, and this stays: %v", err, x.initiator.attached)
	}
	x.mounter.mounts["/other/pod"] = "/dev/fake-v"
	_, err = x.NodeStageVolume(t.Context(), stageRequest(mountCapability("")))
	wantStatus(t, "mount fails beside another", err, codes.FailedPrecondition)
	if len(x.initiator.attached) != 1 {
		t.Error("a device in use was detached")
	}
	x.mounter.mounts = map[string]string{}
	x.initiator.failDetach = api.Errorf(api.CodeInternal, "no")
	_, err = x.NodeStageVolume(t.Context(), stageRequest(mountCapability("")))
	wantStatus(t, "the device stays", err, codes.Unavailable)
}

func TestMalformedStageRequestsReachNobody(t *testing.T) {
	type request = csi.NodeStageVolumeRequest
	for name, tc := range map[string]struct {
		change func(*request)
		want   codes.Code
	}{
		"no volume":       {func(r *request) { r.VolumeId = "" }, codes.InvalidArgument},
		"path as volume":  {func(r *request) { r.VolumeId = "../v" }, codes.NotFound},
		"no path":         {func(r *request) { r.StagingTargetPath = "" }, codes.InvalidArgument},
		"relative path":   {func(r *request) { r.StagingTargetPath = "a" }, codes.InvalidArgument},
		"no capability":   {func(r *request) { r.VolumeCapability = nil }, codes.InvalidArgument},
		"no access type":  {func(r *request) { r.VolumeCapability.AccessType = nil }, codes.InvalidArgument},
		"other fs":        {func(r *request) { r.VolumeCapability = mountCapability("ntfs") }, codes.InvalidArgument},
		"no context":      {func(r *request) { r.PublishContext = nil }, codes.InvalidArgument},
		"bad generation":  {func(r *request) { r.PublishContext[keyGeneration] = "-1" }, codes.InvalidArgument},
		"size too large":  {func(r *request) { r.PublishContext[keySize] = "9223372036854775808" }, codes.InvalidArgument},
		"empty addresses": {func(r *request) { r.PublishContext[keyAddresses] = "" }, codes.InvalidArgument},
	} {
		x := newNodeFixture()
		r := stageRequest(mountCapability(""))
		tc.change(r)
		_, err := x.NodeStageVolume(t.Context(), r)
		wantStatus(t, name, err, tc.want)
		if x.initiator.calls != 0 || len(x.mounter.log) != 0 {
			t.Errorf("%s: acted before it refused: %d attaches, %v", name, x.initiator.calls, x.mounter.log)
		}
	}
}

func TestReaderOnlyModesAttachReadOnly(t *testing.T) {
	x := newNodeFixture()
	c := mountCapability("")
	c.AccessMode.Mode = csi.VolumeCapability_AccessMode_MULTI_NODE_READER_ONLY
	x.mustStage(t, c)
	if !x.initiator.attached["v"].ReadOnly {
		t.Error("a reader-only volume was attached for writing")
	}
}

func TestStatsTellBytesAndInodes(t *testing.T) {
	x := newNodeFixture()
	x.mounter.mounts = map[string]string{
		"/pod/fs": "/dev/fake-v", "/pod/block": "/dev/fake-block", "/pod/dead": "/dev/fake-v",
	}
	x.mounter.corrupted["/pod/dead"] = true
	x.initiator.attached["v"] = api.Attachment{Volume: "v", DevicePath: "/dev/fake-v"}
	stats := func(path string) ([]*csi.VolumeUsage, error) {
		r, err := x.NodeGetVolumeStats(t.Context(), &csi.NodeGetVolumeStatsRequest{VolumeId: "v", VolumePath: path})
		return r.GetUsage(), err
	}
	fs, err := stats("/pod/fs")
	if err != nil || len(fs) != 2 || fs[0].GetUsed() != 4 || fs[1].GetAvailable() != 2 {
		t.Errorf("file system: %v, %v", fs, err)
	}
	x.initiator.attached["v"] = api.Attachment{Volume: "v", DevicePath: "/dev/fake-block"}
	block, err := stats("/pod/block")
	if err != nil || len(block) != 1 || block[0].GetTotal() != 4096 {
		t.Errorf("block: %v, %v", block, err)
	}
	_, err = stats("/pod/fs")
	wantStatus(t, "mount of a device that was lost", err, codes.Internal)
	x.initiator.attached["v"] = api.Attachment{Volume: "v", DevicePath: "/dev/fake-v"}
	_, err = stats("/pod/dead")
	wantStatus(t, "dead mount", err, codes.Internal)
	_, err = stats("/pod/none")
	wantStatus(t, "no such path", err, codes.NotFound)
}

func TestAPodLearnsThatItsDeviceIsLostOrItsInitiatorAway(t *testing.T) {
	x := newNodeFixture()
	want := func(publish, reason string) {
		t.Helper()
		r, err := x.NodeGetVolumeHealth(t.Context(), &csi.NodeGetVolumeHealthRequest{
			VolumeId: "v", VolumePublishPath: publish, StagingTargetPath: "/stage/v",
		})
		var got string
		for _, s := range r.GetVolumeHealth().GetHealthStatuses() {
			got += s.GetReason()
		}
		if err != nil || got != reason || r.GetVolumeHealth().GetVolumeId() != "v" {
			t.Errorf("at %q: got %v, %v, want reason %q", publish, r, err, reason)
		}
	}
	x.mustStage(t, mountCapability(""))
	x.mustPublish(t, publishRequest(mountCapability("")))
	want("", "")
	want("/pod/v", "")
	want("/pod/not-mounted", "")
	x.mounter.corrupted["/pod/v"] = true
	want("/pod/v", reasonFilesystemFailed)
	x.mounter.corrupted["/pod/v"] = false
	x.mounter.turned["/pod/v"] = true
	want("/pod/v", reasonFilesystemFailed)
	_, err := x.NodeGetVolumeStats(t.Context(), &csi.NodeGetVolumeStatsRequest{VolumeId: "v", VolumePath: "/pod/v"})
	wantStatus(t, "stats of a file system that has failed", err, codes.Internal)
	x.mounter.turned["/pod/v"] = false
	fenced := x.initiator.attached["v"]
	fenced.Fenced = true
	x.initiator.attached["v"] = fenced
	want("/pod/v", reasonFenced)
	_, err = x.NodeGetVolumeStats(t.Context(), &csi.NodeGetVolumeStatsRequest{VolumeId: "v", VolumePath: "/pod/v"})
	wantStatus(t, "stats of a fenced volume", err, codes.Internal)
	x.initiator.attached = map[string]api.Attachment{}
	want("", reasonDeviceLost)
	want("/pod/v", reasonDeviceLost)
	x.initiator.away = api.ErrAway
	want("/pod/v", reasonInitiatorAway)
}

func TestNodeInfoNamesTheNode(t *testing.T) {
	info, err := newNodeFixture().NodeGetInfo(t.Context(), &csi.NodeGetInfoRequest{})
	if err != nil || info.GetNodeId() != "n1" || info.GetMaxVolumesPerNode() != 5 ||
		info.GetAccessibleTopology().GetSegments()["zone"] != "z" {
		t.Errorf("got %v, %v", info, err)
	}
}

func TestOnlyOnePodGetsAReadWriteOncePodVolume(t *testing.T) {
	x := newNodeFixture()
	c := mountCapability("")
	c.AccessMode = &csi.VolumeCapability_AccessMode{Mode: csi.VolumeCapability_AccessMode_SINGLE_NODE_SINGLE_WRITER}
	x.mustStage(t, c)
	first, second := publishRequest(c), publishRequest(c)
	second.TargetPath += "-second"
	for range 2 {
		if _, err := x.NodePublishVolume(t.Context(), first); err != nil {
			t.Fatal(err)
		}
	}
	_, err := x.NodePublishVolume(t.Context(), second)
	wantStatus(t, "second pod", err, codes.FailedPrecondition)
}

func TestWhatTheKubeletMountsOfAVolumeForItsOnlyPodIsNoSecondPod(t *testing.T) {
	const kubelet, device, first, second = "/var/lib/kubelet", "/dev/fake-v", "0d2c-11", "77aa-22"
	for name, tc := range map[string]struct{ target, again string }{
		"subPath": {
			kubelet + "/pods/%s/volumes/kubernetes.io~csi/pvc-1/mount", kubelet + "/pods/%s/volume-subpaths/pvc-1/app/0",
		},
		"device": {
			kubelet + "/plugins/kubernetes.io/csi/volumeDevices/publish/pvc-1/%s",
			kubelet + "/plugins/kubernetes.io/csi/volumeDevices/pvc-1/dev/%s",
		},
	} {
		x := newNodeFixture()
		c := blockCapability()
		c.AccessMode.Mode = csi.VolumeCapability_AccessMode_SINGLE_NODE_SINGLE_WRITER
		x.mustStage(t, c)
		r := publishRequest(c)
		x.mounter.mounts[fmt.Sprintf(tc.again, first)] = device
		r.TargetPath = fmt.Sprintf(tc.target, first)
		if _, err := x.NodePublishVolume(t.Context(), r); err != nil {
			t.Errorf("%s: the same pod: %v", name, err)
		}
		r.TargetPath = fmt.Sprintf(tc.target, second)
		_, err := x.NodePublishVolume(t.Context(), r)
		wantStatus(t, name+": another pod", err, codes.FailedPrecondition)
	}
}
