"""Reads a seed as cloud-init's NoCloud data source does, and renders its network; prints all of it as JSON."""
import json
import os
import shlex
import sys
import tempfile

# Debian 12's cloud-init takes `quote` from a module that Python 3.13, a booted node's, has no more.
sys.modules.setdefault("pipes", shlex)

from cloudinit import net, user_data, util
from cloudinit.distros import rhel
from cloudinit.net import eni, netplan, networkd, sysconfig
from cloudinit.net.network_state import parse_net_config_data

seed = util.pathprefix2dict(sys.argv[1] + "/", required=["user-data", "meta-data"], optional=["vendor-data", "network-config"])
meta = util.load_yaml(seed["meta-data"])
network = util.load_yaml(seed["network-config"])
# Renderers look for devices of the machine that they run on.
net.get_interfaces_by_mac = lambda *_, **__: {}
netplan.get_devicelist = lambda *_, **__: []
told = {"meta": meta, "user-data": util.decode_binary(seed["user-data"])}
renderers = {
    "eni": eni.Renderer(),
    "netplan": netplan.Renderer(),
    "networkd": networkd.Renderer(),
    "sysconfig": sysconfig.Renderer(rhel.Distro.renderer_configs["sysconfig"]),
}
for name, renderer in renderers.items():
    with tempfile.TemporaryDirectory() as target:
        state = parse_net_config_data(network, renderer=renderer)
        renderer.render_network_state(state, target=target)
        files = {}
        for folder, _, names in os.walk(target):
            for one in names:
                path = os.path.join(folder, one)
                files[os.path.relpath(path, target)] = util.load_file(path)
        told[name] = files
message = user_data.UserDataProcessor({}).process(seed["vendor-data"])
told["vendor"] = [
    [part.get_content_type(), util.decode_binary(part.get_payload(decode=True))] for part in message.walk() if not part.is_multipart()
]
print(json.dumps(told))
