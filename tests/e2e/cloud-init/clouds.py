"""Lets cloud-init's data sources for OpenStack and EC2 learn from the metadata service over HTTP; prints what they learnt as JSON.

Runs in the network namespace of a guest. What the machine below says of itself (DMI) is put aside: a container sees none of it.
"""
import json
import sys
import tempfile

from cloudinit import helpers, util
from cloudinit.sources import DataSourceEc2, DataSourceOpenStack
from cloudinit.sources.helpers import openstack

kind, *macs = sys.argv[1:]
# The address is one, and the guest's network has no resolver that could be asked about names.
util.is_resolvable_url = lambda _: True
folder = tempfile.mkdtemp()
paths = helpers.Paths({"cloud_dir": folder, "run_dir": folder})
config = {"datasource_list": ["OpenStack", "Ec2"], "datasource": {"OpenStack": {"max_wait": 20}, "Ec2": {"max_wait": 20}}}
if kind == "openstack":
    DataSourceOpenStack.detect_openstack = lambda **_: True
    source = DataSourceOpenStack.DataSourceOpenStack(config, None, paths)
else:
    cloud = DataSourceEc2.CloudNames.AWS if kind == "ec2-with-token" else DataSourceEc2.CloudNames.UNKNOWN
    DataSourceEc2.identify_platform = lambda: cloud
    source = DataSourceEc2.DataSourceEc2(config, None, paths)
    source.cloud_name
told = {"found": source._get_data()}
if told["found"]:
    told["instance-id"] = source.get_instance_id()
    told["public-keys"] = source.get_public_ssh_keys()
    told["user-data"] = util.decode_binary(source.get_userdata_raw() or b"")
    told["vendor-data"] = util.decode_binary(source.get_vendordata_raw() or b"") if kind == "openstack" else None
    told["hostname"] = source.metadata.get("local-hostname")
    told["zone"] = source.availability_zone
    told["token"] = bool(getattr(source, "_api_token", None))
    if kind == "openstack":
        told["network"] = openstack.convert_net_json(source.network_json, known_macs={mac: f"eth{i}" for i, mac in enumerate(macs)})
print(json.dumps(told))
