/** Known answers measured against the reference implementation (the mesh's wire facts). Hex. */
export const X3DH_KDF = {
  dhs: "01".repeat(96),
  current: "f9e61618cab3287ba43f897ea85158e73553dcfa60ed30a3f10ee82ca96b3f50",
  npm4: "7cb3bdc3e6b12fc08e08bb379e78004660c14ee78a7bf4146f2d3df67fb04134",
} as const;

export const ROOT_KDF = {
  rootKey: "01".repeat(32),
  dhOutput: "02".repeat(32),
  nextRootKey: "266612b7faee7ccd09b67cec3fe647b409aeff76c9de2b7e899b8639414c0162",
  chainKey: "5731cdab29b352658f11a398fc92f149749d6fb958f82c5d76dd82ac18dfc8de",
} as const;

export const CHAIN_KDF = {
  chainKey: "03".repeat(32),
  messageKey: "aa6fa3f949be2b2cc7de5a18e7f65fee5fb78488f588d53196a63e66ad67ad12",
  nextChainKey: "cfbf8f5595e5f186a92161efb3ebb946d3aa706c2df70eed5152741bdb1e7bde",
} as const;
