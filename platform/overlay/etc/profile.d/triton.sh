# Triton's tools come first.
PATH="/usr/node/bin:/usr/triton/bin:$PATH"
export PATH
