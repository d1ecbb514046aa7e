package driver

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/shale-storage/shale/api/v1alpha1"
	"github.com/shale-storage/shale/csi/keylock"
	"github.com/shale-storage/shale/csi/volumes"
)

// holdsVolume is the finalizer of the operator that the tests play.
const holdsVolume = "test/operator"

// cluster is a fake API with, if started, a goroutine that does what the operator would.
type cluster struct{ api client.Client }

func newCluster(t *testing.T) *cluster {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	if err := corev1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	return &cluster{api: fake.NewClientBuilder().WithScheme(scheme).
		WithStatusSubresource(&v1alpha1.Volume{}, &v1alpha1.Device{}).Build()}
}

func (c *cluster) add(t *testing.T, o client.Object) {
	t.Helper()
	if err := c.api.Create(t.Context(), o); err != nil {
		t.Fatal(err)
	}
}

func storeNode(name, address string) *v1alpha1.StoreNode {
	return &v1alpha1.StoreNode{
		ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.StoreNodeSpec{Addresses: map[string]string{"tcp": address}},
	}
}

// startOperator makes Volumes ready, and lets those go that are deleted.
func (c *cluster) startOperator(t *testing.T) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				c.operate(ctx)
			}
		}
	}()
	t.Cleanup(func() { stop(); <-done })
}

// operate is one round. A conflict with the driver is met again in the next.
func (c *cluster) operate(ctx context.Context) {
	var list v1alpha1.VolumeList
	if c.api.List(ctx, &list) != nil {
		return
	}
	for i := range list.Items {
		v := &list.Items[i]
		switch {
		case !v.DeletionTimestamp.IsZero():
			v.Finalizers = nil
			_ = c.api.Update(ctx, v)
		case len(v.Finalizers) == 0:
			v.Finalizers = []string{holdsVolume}
			_ = c.api.Update(ctx, v)
		case !meta.IsStatusConditionTrue(v.Status.Conditions, v1alpha1.ConditionReady):
			c.say(ctx, v, metav1.ConditionTrue, v1alpha1.ReasonServing)
		}
	}
}

func (c *cluster) say(ctx context.Context, v *v1alpha1.Volume, s metav1.ConditionStatus, reason string) {
	meta.SetStatusCondition(&v.Status.Conditions, metav1.Condition{
		Type: v1alpha1.ConditionReady, Status: s, Reason: reason, Message: "2 of 3 nodes have room: n3 is full",
	})
	_ = c.api.Status().Update(ctx, v)
}

type controllerFixture struct {
	*Controller
	*cluster
	locks *keylock.Locks
}

func newControllerFixture(t *testing.T) controllerFixture {
	t.Helper()
	c, locks := newCluster(t), &keylock.Locks{}
	for i := range 3 {
		name := fmt.Sprintf("n%d", i+1)
		c.add(t, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}})
		c.add(t, storeNode(name, name+":7800"))
	}
	return controllerFixture{NewController(volumes.New(c.api), locks), c, locks}
}

func (x controllerFixture) mustCreate(t *testing.T) string {
	t.Helper()
	r, err := x.CreateVolume(t.Context(), createRequest("pvc-1"))
	if err != nil {
		t.Fatal(err)
	}
	return r.GetVolume().GetVolumeId()
}

func (x controllerFixture) get(t *testing.T, name string) *v1alpha1.Volume {
	t.Helper()
	v := &v1alpha1.Volume{}
	if err := x.api.Get(t.Context(), client.ObjectKey{Name: name}, v); err != nil {
		t.Fatal(err)
	}
	return v
}

func capability(mode csi.VolumeCapability_AccessMode_Mode) *csi.VolumeCapability {
	c := blockCapability()
	c.AccessMode = &csi.VolumeCapability_AccessMode{Mode: mode}
	return c
}

const (
	writer = csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER
	reader = csi.VolumeCapability_AccessMode_MULTI_NODE_READER_ONLY
)

func createRequest(name string) *csi.CreateVolumeRequest {
	return &csi.CreateVolumeRequest{
		Name: name, VolumeCapabilities: []*csi.VolumeCapability{capability(writer)},
		CapacityRange: &csi.CapacityRange{RequiredBytes: 1 << 30},
		Parameters: map[string]string{
			"pool": "fast", "csi.storage.k8s.io/pvc/name": "data", "csi.storage.k8s.io/pvc/namespace": "shop",
		},
	}
}

func (x controllerFixture) publish(
	t *testing.T, id, node string, mode csi.VolumeCapability_AccessMode_Mode,
) (map[string]string, error) {
	t.Helper()
	r, err := x.ControllerPublishVolume(t.Context(), &csi.ControllerPublishVolumeRequest{
		VolumeId: id, NodeId: node, VolumeCapability: capability(mode),
	})
	return r.GetPublishContext(), err
}

func TestACreatedVolumeSaysWhatWasAskedAndForWhom(t *testing.T) {
	x := newControllerFixture(t)
	x.startOperator(t)
	v := x.get(t, x.mustCreate(t))
	want := v1alpha1.VolumeSpec{ID: v.Spec.ID, SizeBytes: 1 << 30, PoolName: "fast", Replicas: 3, ShardSizeBytes: 32 << 30}
	if diff := cmp.Diff(want, v.Spec); diff != "" || len(v.Spec.ID) != 36 {
		t.Error(diff, v.Spec.ID)
	}
	if v.Annotations[annotationClaim] != "shop/data" || v.Labels[labelNamespace] != "shop" {
		t.Errorf("annotations %v, labels %v", v.Annotations, v.Labels)
	}
	if again := x.mustCreate(t); x.get(t, again).Spec.ID != v.Spec.ID {
		t.Error("the same call again made another volume")
	}
	other := createRequest("pvc-1")
	other.Parameters["replicas"] = "2"
	_, err := x.CreateVolume(t.Context(), other)
	wantStatus(t, "other replicas", err, codes.AlreadyExists)
}

func TestNoRoomIsSaidWithTheReasonAndLeavesNothing(t *testing.T) {
	x := newControllerFixture(t)
	answered := make(chan error, 1)
	go func() {
		_, err := x.CreateVolume(t.Context(), createRequest("pvc-1"))
		answered <- err
	}()
	v := &v1alpha1.Volume{}
	for x.api.Get(t.Context(), client.ObjectKey{Name: "pvc-1"}, v) != nil {
		if t.Context().Err() != nil {
			t.Fatal("the volume was never made")
		}
	}
	x.say(t.Context(), v, metav1.ConditionFalse, v1alpha1.ReasonNoRoom)
	err := <-answered
	wantStatus(t, "no room", err, codes.ResourceExhausted)
	if !strings.Contains(err.Error(), "n3 is full") {
		t.Errorf("%v does not say where", err)
	}
	if err := x.api.Get(t.Context(), client.ObjectKeyFromObject(v), v); client.IgnoreNotFound(err) != nil || err == nil {
		t.Errorf("the volume is still there: %v", err)
	}
}

// withoutRoom says of each volume that there is no room for it, and fails to delete it.
type withoutRoom struct{ Volumes }

func (withoutRoom) WaitReady(_ context.Context, name string) error {
	return &volumes.NotReadyError{Volume: name, Reason: v1alpha1.ReasonNoRoom, Message: "n3 is full"}
}

func (withoutRoom) TakeBack(context.Context, *volumes.NotReadyError) error {
	return errors.New("the API server is away")
}

func TestAVolumeWithoutRoomThatCannotBeTakenBackIsAskedForAgain(t *testing.T) {
	x := newControllerFixture(t)
	x.volumes = withoutRoom{x.volumes}
	_, err := x.CreateVolume(t.Context(), createRequest("pvc-1"))
	wantStatus(t, "the provisioner must not forget the volume", err, codes.Unavailable)
	if !strings.Contains(err.Error(), "n3 is full") {
		t.Errorf("%v does not say why", err)
	}
}

func TestAVolumeTooSmallForXFSIsRefused(t *testing.T) {
	x := newControllerFixture(t)
	x.startOperator(t)
	for name, tc := range map[string]struct {
		fsType string
		size   int64
		want   codes.Code
	}{
		"xfs":                {"xfs", 300<<20 - 4096, codes.OutOfRange},
		"xfs of just enough": {"xfs", 300 << 20, codes.OK},
		"ext4":               {"ext4", 64 << 20, codes.OK},
	} {
		r := createRequest("pvc-" + strings.ReplaceAll(name, " ", "-"))
		r.VolumeCapabilities = []*csi.VolumeCapability{mountCapability(tc.fsType)}
		r.CapacityRange.RequiredBytes = tc.size
		_, err := x.CreateVolume(t.Context(), r)
		wantStatus(t, name, err, tc.want)
		if err != nil && !strings.Contains(err.Error(), "capacity_range") {
			t.Errorf("%s: %v does not name the field", name, err)
		}
	}
}

// foundLater says that there is no room, and calls then before the next look: whoever may be at work meanwhile.
type foundLater struct {
	Volumes
	x    controllerFixture
	then func(ctx context.Context, v *v1alpha1.Volume)
}

func (f foundLater) WaitReady(ctx context.Context, name string) error {
	v := &v1alpha1.Volume{}
	if err := f.x.api.Get(ctx, client.ObjectKey{Name: name}, v); err != nil {
		return err
	}
	f.x.say(ctx, v, metav1.ConditionFalse, v1alpha1.ReasonNoRoom)
	err := f.Volumes.WaitReady(ctx, name)
	f.then(ctx, v)
	return err
}

func TestAVolumeThatFoundRoomOrWasAttachedIsNotTakenBack(t *testing.T) {
	x := newControllerFixture(t)
	inner := x.volumes
	x.volumes = foundLater{inner, x, func(ctx context.Context, v *v1alpha1.Volume) {
		x.say(ctx, v, metav1.ConditionTrue, v1alpha1.ReasonServing)
	}}
	_, err := x.CreateVolume(t.Context(), createRequest("pvc-1"))
	wantStatus(t, "it found room meanwhile", err, codes.Aborted)
	v := x.get(t, "pvc-1")
	v.Spec.AttachGeneration = v1alpha1.AttachGenerationStep
	if err := x.api.Update(t.Context(), v); err != nil {
		t.Fatal(err)
	}
	x.volumes = foundLater{inner, x, func(context.Context, *v1alpha1.Volume) {}}
	_, err = x.CreateVolume(t.Context(), createRequest("pvc-1"))
	wantStatus(t, "it was attached before", err, codes.Unavailable)
	x.get(t, "pvc-1")
}

func TestAnUnreadyVolumeStaysForTheNextCall(t *testing.T) {
	x := newControllerFixture(t)
	short, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := x.CreateVolume(short, createRequest("pvc-1"))
	wantStatus(t, "no operator", err, codes.DeadlineExceeded)
	id := x.get(t, "pvc-1").Spec.ID
	x.startOperator(t)
	if x.get(t, x.mustCreate(t)).Spec.ID != id {
		t.Error("the second call made another volume")
	}
}

func TestAWriterKeepsOthersOutUntilItIsDetached(t *testing.T) {
	x := newControllerFixture(t)
	x.startOperator(t)
	id := x.mustCreate(t)
	first, err := x.publish(t, id, "n2", writer)
	if err != nil || first[keyGeneration] != "4294967296" || first[keyAddresses] != "n2:7800,n1:7800,n3:7800" {
		t.Errorf("first: %v, %v", first, err)
	}
	if again, err := x.publish(t, id, "n2", writer); err != nil || cmp.Diff(first, again) != "" {
		t.Errorf("again: %v, %v", again, err)
	}
	_, err = x.publish(t, id, "n2", reader)
	wantStatus(t, "same node as reader", err, codes.AlreadyExists)
	_, err = x.publish(t, id, "n3", writer)
	wantStatus(t, "second writer", err, codes.FailedPrecondition)
	if !strings.Contains(err.Error(), "n2") {
		t.Errorf("%v does not name the node that has it", err)
	}
	_, err = x.DeleteVolume(t.Context(), &csi.DeleteVolumeRequest{VolumeId: id})
	wantStatus(t, "delete while attached", err, codes.FailedPrecondition)
	for range 2 {
		if _, err := x.ControllerUnpublishVolume(t.Context(), &csi.ControllerUnpublishVolumeRequest{
			VolumeId: id, NodeId: "n2",
		}); err != nil {
			t.Error(err)
		}
	}
	if next, err := x.publish(t, id, "n3", writer); err != nil || next[keyGeneration] != "8589934592" {
		t.Errorf("after detach: %v, %v", next, err)
	}
}

func TestANodeIsToldOfStorenodesThatLive(t *testing.T) {
	const dead, told = 20, 16
	x := newControllerFixture(t)
	x.startOperator(t)
	for i := range dead {
		n := storeNode(fmt.Sprintf("a%02d", i), fmt.Sprintf("a%02d:7800", i))
		n.Status.Conditions = []metav1.Condition{{
			Type: v1alpha1.ConditionReady, Status: metav1.ConditionFalse, Reason: "Gone",
		}}
		x.add(t, n)
	}
	got, err := x.publish(t, x.mustCreate(t), "n2", writer)
	addresses := strings.Split(got[keyAddresses], ",")
	if err != nil || len(addresses) != told || !slices.Equal(addresses[:3], []string{"n2:7800", "n1:7800", "n3:7800"}) {
		t.Errorf("got %v, %v", addresses, err)
	}
}

func TestReadersShareAGenerationSoThatNoneFencesAnother(t *testing.T) {
	x := newControllerFixture(t)
	x.startOperator(t)
	id := x.mustCreate(t)
	for _, node := range []string{"n1", "n2"} {
		if got, err := x.publish(t, id, node, reader); err != nil || got[keyGeneration] != "4294967296" {
			t.Errorf("%s: %v, %v", node, got, err)
		}
	}
	_, err := x.publish(t, id, "n3", writer)
	wantStatus(t, "a writer beside readers", err, codes.FailedPrecondition)
}

func TestDeletingIsIdempotentAndWaitsForTheOperator(t *testing.T) {
	x := newControllerFixture(t)
	x.startOperator(t)
	id := x.mustCreate(t)
	for range 2 {
		if _, err := x.DeleteVolume(t.Context(), &csi.DeleteVolumeRequest{VolumeId: id}); err != nil {
			t.Fatal(err)
		}
	}
	err := x.api.Get(t.Context(), client.ObjectKey{Name: id}, &v1alpha1.Volume{})
	if err == nil || client.IgnoreNotFound(err) != nil {
		t.Errorf("the volume is still there: %v", err)
	}
}

func TestADeletionThatTakesLongIsAborted(t *testing.T) {
	x := newControllerFixture(t)
	x.add(t, &v1alpha1.Volume{ObjectMeta: metav1.ObjectMeta{Name: "v", Finalizers: []string{holdsVolume}}})
	short, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := x.DeleteVolume(short, &csi.DeleteVolumeRequest{VolumeId: "v"})
	wantStatus(t, "held by the operator", err, codes.Aborted)
	_, err = x.CreateVolume(t.Context(), createRequest("v"))
	wantStatus(t, "create what is going", err, codes.Aborted)
}

func TestMalformedControllerRequestsNameTheField(t *testing.T) {
	x := newControllerFixture(t)
	type request = csi.CreateVolumeRequest
	for field, change := range map[string]func(*request){
		"name":                  func(r *request) { r.Name = "" },
		"volume_capabilities":   func(r *request) { r.VolumeCapabilities = nil },
		"volume_capability":     func(r *request) { r.VolumeCapabilities[0].AccessType = nil },
		"MULTI_NODE_MULTI":      func(r *request) { r.VolumeCapabilities[0].AccessMode.Mode = 5 },
		"nobody may write":      func(r *request) { r.VolumeCapabilities[0].AccessMode.Mode = reader },
		"capacity_range":        func(r *request) { r.CapacityRange.LimitBytes = 1 },
		"volume_content_source": func(r *request) { r.VolumeContentSource = &csi.VolumeContentSource{} },
		"mutable_parameters":    func(r *request) { r.MutableParameters = map[string]string{"a": "b"} },
		"replicas":              func(r *request) { r.Parameters["replicas"] = "0" },
		`"stripe"`:              func(r *request) { r.Parameters["stripe"] = "4" },
	} {
		r := createRequest("pvc-1")
		change(r)
		_, err := x.CreateVolume(t.Context(), r)
		code := codes.InvalidArgument
		if field == "capacity_range" {
			code = codes.OutOfRange
		}
		wantStatus(t, field, err, code)
		if !strings.Contains(status.Convert(err).Message(), field) {
			t.Errorf("%v does not name %s", err, field)
		}
	}
	var list v1alpha1.VolumeList
	if err := x.api.List(t.Context(), &list); err != nil || len(list.Items) != 0 {
		t.Errorf("%d volumes were made of malformed requests, %v", len(list.Items), err)
	}
}

func TestPagesTogetherAreAllVolumes(t *testing.T) {
	x := newControllerFixture(t)
	for _, name := range []string{"c", "a", "e", "b", "d"} {
		x.add(t, &v1alpha1.Volume{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.VolumeSpec{SizeBytes: 4096}})
	}
	var got []string
	token := ""
	for page := 0; page == 0 || token != ""; page++ {
		r, err := x.ListVolumes(t.Context(), &csi.ListVolumesRequest{MaxEntries: 2, StartingToken: token})
		if err != nil || len(r.GetEntries()) > 2 || page > 5 {
			t.Fatalf("page %d: %v, %v", page, r, err)
		}
		for _, e := range r.GetEntries() {
			got = append(got, e.GetVolume().GetVolumeId())
		}
		token = r.GetNextToken()
	}
	if diff := cmp.Diff([]string{"a", "b", "c", "d", "e"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestCapacityIsWhatFitsWithoutTwoReplicasOnOneNode(t *testing.T) {
	x := newControllerFixture(t)
	x.add(t, &v1alpha1.Pool{ObjectMeta: metav1.ObjectMeta{Name: "fast"}})
	for node, gib := range map[string]int64{"n1": 100, "n2": 30, "n3": 10} {
		d := &v1alpha1.Device{
			ObjectMeta: metav1.ObjectMeta{Name: "dev-" + node}, Spec: v1alpha1.DeviceSpec{PoolName: "fast", NodeName: node},
		}
		x.add(t, d)
		d.Status = v1alpha1.DeviceStatus{CapacityBytes: gib << 30, Conditions: []metav1.Condition{{
			Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonServing,
		}}}
		if err := x.api.Status().Update(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	for replicas, want := range map[string]int64{"1": 140 << 30, "2": 40 << 30, "3": 10 << 30, "4": 0} {
		r, err := x.GetCapacity(t.Context(), &csi.GetCapacityRequest{
			Parameters: map[string]string{"pool": "fast", "replicas": replicas},
		})
		if err != nil || r.GetAvailableCapacity() != want {
			t.Errorf("%s replicas: %d, %v; want %d", replicas, r.GetAvailableCapacity(), err, want)
		}
	}
}

func TestAPoolThatIsGoneHasNoRoom(t *testing.T) {
	r, err := newControllerFixture(t).GetCapacity(t.Context(), &csi.GetCapacityRequest{
		Parameters: map[string]string{"pool": "gone"},
	})
	if err != nil || r.GetAvailableCapacity() != 0 {
		t.Errorf("got %v, %v", r, err)
	}
}

func TestVolumesAreForNodesWithThePlugin(t *testing.T) {
	x := newControllerFixture(t)
	x.startOperator(t)
	elsewhere := &csi.Topology{Segments: map[string]string{TopologyKey: "no"}}
	zone := &csi.Topology{Segments: map[string]string{"zone": "z"}}
	r := createRequest("pvc-1")
	r.AccessibilityRequirements = &csi.TopologyRequirement{Requisite: []*csi.Topology{elsewhere}}
	_, err := x.CreateVolume(t.Context(), r)
	wantStatus(t, "a place without the plugin", err, codes.ResourceExhausted)
	if !strings.Contains(err.Error(), "accessibility_requirements") {
		t.Errorf("%v does not name the field", err)
	}
	r.AccessibilityRequirements = &csi.TopologyRequirement{
		Requisite: []*csi.Topology{elsewhere, {Segments: Topology()}}, Preferred: []*csi.Topology{zone},
	}
	made, err := x.CreateVolume(t.Context(), r)
	if err != nil || made.GetVolume().GetAccessibleTopology()[0].GetSegments()[TopologyKey] != TopologyValue {
		t.Errorf("got %v, %v", made, err)
	}
	room, err := x.GetCapacity(t.Context(), &csi.GetCapacityRequest{
		Parameters: r.GetParameters(), AccessibleTopology: elsewhere,
	})
	if err != nil || room.GetAvailableCapacity() != 0 {
		t.Errorf("got %v, %v", room, err)
	}
}
