// A plugin of Serverless Devs, for s.yaml: without --skip-push, `s deploy` pushes whatever this machine
// has under the name of the image, over the one in the registry.
module.exports = async (inputs) => ({ ...inputs, args: [...inputs.args, '--skip-push'] });
