"""Asks the metadata service with the client classes of cloud-init's SmartOS data source; prints what it learnt as JSON."""
import json
import sys

from cloudinit.sources import DataSourceSmartOS as smartos

kind, path = sys.argv[1:3]
if kind == "socket":
    client = smartos.JoyentMetadataSocketClient(path)
else:
    client = smartos.JoyentMetadataLegacySerialClient(path, timeout=20)
told = {}
with client as open_client:
    for name, (key, strip) in smartos.SMARTOS_ATTRIB_MAP.items():
        told[name] = open_client.get(key, strip=strip)
    nics = open_client.get_json("sdc:nics")
    resolvers = open_client.get_json("sdc:resolvers")
    routes = open_client.get_json("sdc:routes")
    told["list"] = open_client.list()
    open_client.put("from-" + kind, "two\nlines\n")
    told["put"] = open_client.get("from-" + kind)
    open_client.delete("from-" + kind)
    told["deleted"] = open_client.get("from-" + kind)
told["network"] = smartos.convert_smartos_network_data(nics, resolvers, told["dns_domain"], routes)
print(json.dumps(told))
