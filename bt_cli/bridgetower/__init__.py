"""The network: two towers that never meet, bridged layer by layer into a cross-modal encoder, and its heads.

Wherever bt's code and documents say *the port*, they mean the implementation of BridgeTower in the library
`transformers` (`transformers.models.bridgetower`), which the published checkpoints on the hub are made for; *the
original* is the authors' own code (microsoft/BridgeTower), which those were converted from. Where the two differ, bt
computes as the port does, unless a checkpoint says otherwise.
"""
