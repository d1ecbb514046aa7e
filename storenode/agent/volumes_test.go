package agent

import (
	"slices"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/shale-storage/shale/api/v1alpha1"
	"github.com/shale-storage/shale/storenode/ident"
	"github.com/shale-storage/shale/storenode/membership"
	"github.com/shale-storage/shale/storenode/shard"
)

func TestVolumeIsAsLargeAsItsShards(t *testing.T) {
	m := shard.VolumeMap{Size: 100, ShardSize: 32, Shards: make([]membership.Record, 4)}
	cut(&m, nil)
	if m.Size != 100 || len(m.Shards) != 4 {
		t.Errorf("none is short: %d bytes, %d shards", m.Size, len(m.Shards))
	}
	cut(&m, []v1alpha1.ShardSpec{{Index: 2, SizeBytes: 8}, {Index: 1, SizeBytes: 16}, {Index: 3, SizeBytes: 1}})
	if m.Size != 48 || len(m.Shards) != 2 {
		t.Errorf("shard 1 is short: %d bytes, %d shards, want 48 and 2", m.Size, len(m.Shards))
	}
}

// That a Volume cannot be found any more is no order to delete it.
func TestVolumeIsDeletedForItsClientsOnlyIfSomebodyAskedForThat(t *testing.T) {
	going := func(v *v1alpha1.Volume) { v.DeletionTimestamp = &metav1.Time{Time: time.Unix(1, 0)} }
	attached := func(v *v1alpha1.Volume) { v.Spec.Attachments = []v1alpha1.VolumeAttachment{{NodeName: "n1"}} }
	type changes []func(*v1alpha1.Volume)
	for story, c := range map[string]struct {
		next changes
		gone bool
		want []string
	}{
		"it stays":                     {changes{}, false, []string{"published", "published"}},
		"it cannot be found":           {nil, true, []string{"published", "forgotten"}},
		"it is deleted while attached": {changes{going, attached}, false, []string{"published", "published"}},
		"it is deleted":                {changes{going}, false, []string{"published", "deleted"}},
	} {
		v := &v1alpha1.Volume{Spec: v1alpha1.VolumeSpec{ID: uuid(1).String(), SizeBytes: 1, ShardSizeBytes: 1}}
		v.Name, v.Finalizers = "v", []string{"test"}
		s := &v1alpha1.Shard{Spec: v1alpha1.ShardSpec{VolumeName: "v", VolumeID: v.Spec.ID, SizeBytes: 1}}
		s.Name, s.Spec.Membership = "v-0", v1alpha1.ShardMembership{Epoch: 1}
		host := &fakeHost{}
		r := &volumes{host: host, places: &places{}, ids: map[string]ident.UUID{}}
		pass := func(objects ...client.Object) {
			r.api = kubernetes(t, interceptor.Funcs{}, objects...)
			r.places.api = r.api
			request := reconcile.Request{NamespacedName: client.ObjectKey{Name: "v"}}
			if _, err := r.Reconcile(t.Context(), request); err != nil {
				t.Errorf("%s: %v", story, err)
			}
		}
		pass(v.DeepCopy(), s.DeepCopy())
		for _, change := range c.next {
			change(v)
		}
		if c.gone {
			pass(s.DeepCopy())
		} else {
			pass(v, s.DeepCopy())
		}
		if !slices.Equal(host.told, c.want) {
			t.Errorf("%s: its clients see %v, want %v", story, host.told, c.want)
		}
	}
}

// Shards of a Volume that had the same name and another ID have other data.
func TestMapOfAVolumeHasNoShardsOfAnother(t *testing.T) {
	v := &v1alpha1.Volume{Spec: v1alpha1.VolumeSpec{ID: uuid(1).String(), SizeBytes: 1, ShardSizeBytes: 1}}
	v.Name = "v"
	for id, want := range map[ident.UUID]bool{uuid(1): true, uuid(2): false} {
		s := &v1alpha1.Shard{Spec: v1alpha1.ShardSpec{VolumeName: "v", VolumeID: id.String(), SizeBytes: 1}}
		s.Name, s.Spec.Membership = "v-0", v1alpha1.ShardMembership{Epoch: 1}
		api := kubernetes(t, interceptor.Funcs{}, v, s)
		r := &volumes{api: api, places: &places{api: api}}
		if _, complete, err := r.volumeMap(t.Context(), v); err != nil || complete != want {
			t.Errorf("shard of %s: complete is %v, %v, want %v", id, complete, err, want)
		}
	}
}

// No pass has to see that there was none in between: both changes may be in the cache by then.
func TestMapOfAVolumeGoesThatAnotherOfItsNameReplaced(t *testing.T) {
	going := func(v *v1alpha1.Volume) {
		v.Finalizers, v.DeletionTimestamp = []string{"test"}, &metav1.Time{Time: time.Unix(1, 0)}
	}
	for story, c := range map[string]struct {
		next   ident.UUID
		change func(*v1alpha1.Volume)
		want   []string
	}{
		"it is the same":               {uuid(1), func(*v1alpha1.Volume) {}, []string{"published", "published"}},
		"another has no shards yet":    {uuid(2), func(*v1alpha1.Volume) {}, []string{"published", "forgotten"}},
		"another is deleted by itself": {uuid(2), going, []string{"published", "forgotten", "deleted"}},
	} {
		v := &v1alpha1.Volume{Spec: v1alpha1.VolumeSpec{ID: uuid(1).String(), SizeBytes: 1, ShardSizeBytes: 1}}
		v.Name = "v"
		s := &v1alpha1.Shard{Spec: v1alpha1.ShardSpec{VolumeName: "v", VolumeID: v.Spec.ID, SizeBytes: 1}}
		s.Name, s.Spec.Membership = "v-0", v1alpha1.ShardMembership{Epoch: 1}
		host := &fakeHost{}
		r := &volumes{host: host, places: &places{}, ids: map[string]ident.UUID{}}
		second := v.DeepCopy()
		second.Spec.ID = c.next.String()
		c.change(second)
		for _, object := range []*v1alpha1.Volume{v, second} {
			r.api = kubernetes(t, interceptor.Funcs{}, object, s.DeepCopy())
			r.places.api = r.api
			request := reconcile.Request{NamespacedName: client.ObjectKey{Name: "v"}}
			if _, err := r.Reconcile(t.Context(), request); err != nil {
				t.Errorf("%s: %v", story, err)
			}
		}
		if !slices.Equal(host.told, c.want) {
			t.Errorf("%s: clients see %v, want %v", story, host.told, c.want)
		}
	}
}
