# The code cells of "Causal Mediation Analysis I", in their order and letter by letter: run by test_seed.py.

# %%
# load a toy neural network that computes A + B + C
from causal_mediation_utils import get_toy_model

toy_model = get_toy_model()
toy_model

# %%
inputs = [1, 2, 3] # must be 3 numbers
output = toy_model(inputs).item()
print(round(output, 2)) # round to 2 decimal places

# %%
from causal_mediation_utils import get_causal_graph_of_toy_model

toy_model_graph = get_causal_graph_of_toy_model(toy_model)

toy_model_graph.display_structure()

# %%
# use nnsight to inspect the internals of our model!
import nnsight

toy_model = nnsight.NNsight(toy_model)

# %%
# save intermediate values of the neural network
import torch

inputs = [1, 2, 3]
with torch.no_grad():
    with toy_model.trace(inputs): # trace the forward pass of the network
        h1 = toy_model.l1.output.save()
        h2 = toy_model.l2.output.save()
        h3 = toy_model.l3.output.save()

print('Neurons in layer 1:', h1.tolist())
print('Neurons in layer 2:', h2.tolist())
print('Neurons in layer 3:', h3.tolist())

# %%
# display neural activations as causal graph
inputs = {'A': inputs[0], 'B': inputs[1], 'C': inputs[2]} # get inputs from cell above
toy_model_graph.display_forward_pass(inputs)

# %%
# change the inputs and focus on the value of h23
inputs = [1, 2, 4]
inputs = {'A': inputs[0], 'B': inputs[1], 'C': inputs[2]}
toy_model_graph.display_forward_pass(inputs)

# %%
# intervene on h23
inputs = [1, 2, 3]
new_h23_value = -100 # change h22 to any value you want!

with torch.no_grad():
    with toy_model.trace(inputs):
        # change value of last neuron in second layer
        toy_model.l2.output[-1] = new_h23_value
        output = toy_model.output.item().save()

print(output)

# %%
# visualize the cell above
inputs = {'A': inputs[0], 'B': inputs[1], 'C': inputs[2]}
intervention = {'h23': new_h23_value}
toy_model_graph.display_forward_pass(inputs, intervention)

# %%
# set up base input & source input where only A is different
base_inputs = [1, 2, 3]
source_inputs = [4, 2, 3]

# %%
# compute total effect
base_output = round(toy_model(base_inputs).item(), 2)
source_output = round(toy_model(source_inputs).item(), 2)
print('Base output:', base_output)
print('Source output:', source_output)

# %%
# visualize the cell above
base_causal_input = {'A': base_inputs[0], 'B': base_inputs[1], 'C': base_inputs[2]}
source_causal_input = {'A': source_inputs[0], 'B': source_inputs[1], 'C': source_inputs[2]}
toy_model_graph.display_interchange(base_causal_input, {'A': source_causal_input})

# %%
# find the direct effect of h12

# forward pass on base input
with toy_model.trace(base_inputs):
    # 1. collect base value of h12
    base_h12_value = toy_model.l1.output[1].save()
    # save base value
    base_output = toy_model.output.save()

# forward pass on source input
with toy_model.trace(source_inputs):
    # 2. set source value of h12 to base value
    toy_model.l1.output[1] = base_h12_value
    # 3. save final output & compare to base value
    intervened_output = toy_model.output.save()

# compare: if we successfully restored the base value, then h12 has a causal effect!
base_output = round(base_output.item(), 2)
intervened_output = round(intervened_output.item(), 2)
print('Base output:', base_output)
print('Intervened output:', intervened_output)

# %%
# find the indirect effect of h12

# forward pass on source input
with toy_model.trace(source_inputs):
    # 1. collect source value of h12
    source_h12_value = toy_model.l1.output[1].save()

# forward pass on base input
with toy_model.trace(base_inputs):
    # 2. set base value of h12 to source value
    toy_model.l1.output[1] = source_h12_value
    # 3. save final output & compare to base value
    intervened_output = toy_model.output.save()

# compare: if the base value changed, it had to be because of h12...
intervened_output = round(intervened_output.item(), 2)
print('Base output:', base_output)
print('Intervened output:', intervened_output)

# %%
# visualize indirect effect of h12
base_input = {'A': base_inputs[0], 'B': base_inputs[1], 'C': base_inputs[2]}
source_input = {'A': source_inputs[0], 'B': source_inputs[1], 'C': source_inputs[2]}
toy_model_graph.display_interchange(base_input, {'h12': source_input})

# %%
# change the base & source to be different with respect to B instead of A
base_inputs = [1, 2, 3]
source_inputs = [1, 4, 3]

# forward pass on source input
with toy_model.trace(source_inputs):
    # 1. collect source value of h12
    source_h12_value = toy_model.l1.output[1].save()

# forward pass on base input
with toy_model.trace(base_inputs):
    # 2. set base value of h12 to source value
    toy_model.l1.output[1] = source_h12_value
    # 3. save final output & compare to base value
    intervened_output = toy_model.output.save()

# did the base output change this time? if not, then h12 might not have a causal effect...
intervened_output = round(intervened_output.item(), 2)
print('Base output:', base_output)
print('Intervened output:', intervened_output)

# %%
# change B instead of A -> does h12 still make a difference?
base_input = {'A': base_inputs[0], 'B': base_inputs[1], 'C': base_inputs[2]}
source_input = {'A': source_inputs[0], 'B': source_inputs[1], 'C': source_inputs[2]}
toy_model_graph.display_interchange(base_input, {'h12': source_input})

# %%
# generate dataset where only A changes between base & source examples
import random

random.seed(42)
DIGITS = list(range(10))
N = 50 # size of dataset

dataset_mediating_A = []
for _ in range(N):
    # randomly select a base input
    base_input = [random.choice(DIGITS), random.choice(DIGITS), random.choice(DIGITS)]

    # change A (the first number) in the base input to get a source input
    source_input = base_input.copy()
    not_base_A = DIGITS[:base_input[0]] + DIGITS[base_input[0] + 1:] # don't repeat base input
    source_input[0] = random.choice(not_base_A)

    dataset_mediating_A.append({'base': base_input, 'source': source_input})

print(dataset_mediating_A[0])

# %%
# compute the causal effect of each neuron in our model in mediating A
toy_model_components = [toy_model.l1, toy_model.l2, toy_model.l3]

def compute_causal_effect(dataset, layer : int, neuron : int):
    # keep track of number of times neuron had an effect
    num_examples_with_effect = 0
    for inputs in dataset:
        base_inputs, source_inputs = inputs['base'], inputs['source']

        with toy_model.trace(source_inputs):
            # 1. collect source value of h12
            source_h12_value = toy_model_components[layer].output[neuron].save()
            source_output = toy_model.output.item().save()

        # forward pass on base input
        with toy_model.trace(base_inputs):
            # 2. set base value of h12 to source value
            toy_model_components[layer].output[neuron] = source_h12_value
            # 3. save final output & compare to base value
            intervened_output = toy_model.output.item().save()

        # this is techincally direct effect:
        # we want the intervened output to match the source output
        # (for indirect effect, it's enough for the intervened output to be different from the base output)
        if intervened_output == source_output:
            num_examples_with_effect += 1

    # we return the "interchange intervention accuracy", or how many examples had an effect
    return num_examples_with_effect / len(dataset)

# let's go over each layer & neuron and compute its causal effect
causal_effects = []
for layer in range(2):
    causal_effects_per_layer = []
    for neuron in range(3):
        causal_effect = compute_causal_effect(dataset_mediating_A, layer, neuron)
        causal_effects_per_layer.append(causal_effect)
    causal_effects.append(causal_effects_per_layer)

# %%
# visualize our results!
import plotly.express as px

fig_a = px.imshow(
    causal_effects,
    x=["1", "2", "3"],
    y=["1", "2"],
    template='simple_white',
    color_continuous_scale=[[0, '#FFFFFF'], [1, "#A59FD9"]]
)

fig_a.update_layout(
    xaxis_title='neuron index',
    yaxis_title='layer index',
    yaxis=dict(autorange='min')
)

fig_a

# %%
# 1. gather dataset of bases & sources where only B changes
dataset_mediating_B = []
for _ in range(N):
    base_input = [random.choice(DIGITS), random.choice(DIGITS), random.choice(DIGITS)]
    source_input = base_input.copy()
    # switch up B (index 1) btw the base & the source
    not_base_B = DIGITS[:base_input[1]] + DIGITS[base_input[1] + 1:]
    source_input[1] = random.choice(not_base_B)

    dataset_mediating_B.append({'base': base_input, 'source': source_input})

print('Example datapoint:')
print(dataset_mediating_B[0])

# 2. compute causal effects with dataset
causal_effects = []
for layer in range(2):
    causal_effects_per_layer = []
    for neuron in range(3):
        causal_effect = compute_causal_effect(dataset_mediating_B, layer, neuron)
        causal_effects_per_layer.append(causal_effect)
    causal_effects.append(causal_effects_per_layer)

# 3. plot results!
fig_b = px.imshow(
    causal_effects,
    x=["1", "2", "3"],
    y=["1", "2"],
    template='simple_white',
    color_continuous_scale=[[0, '#FFFFFF'], [1, "#A59FD9"]]
)

fig_b.update_layout(
    xaxis_title='neuron index',
    yaxis_title='layer index',
    yaxis=dict(autorange='min')
)

fig_b

# %%
# 1. gather dataset of bases & sources where only B changes
dataset_mediating_C = []
for _ in range(N):
    base_input = [random.choice(DIGITS), random.choice(DIGITS), random.choice(DIGITS)]
    source_input = base_input.copy()
    # switch up C (index 2) btw the base & the source
    not_base_C = DIGITS[:base_input[2]] + DIGITS[base_input[2] + 1:]
    source_input[2] = random.choice(not_base_C)

    dataset_mediating_C.append({'base': base_input, 'source': source_input})

print('Example datapoint:')
print(dataset_mediating_B[0])

# 2. compute causal effects with dataset
causal_effects = []
for layer in range(2):
    causal_effects_per_layer = []
    for neuron in range(3):
        causal_effect = compute_causal_effect(dataset_mediating_B, layer, neuron)
        causal_effects_per_layer.append(causal_effect)
    causal_effects.append(causal_effects_per_layer)

# 3. plot results!
fig_c = px.imshow(
    causal_effects,
    x=["1", "2", "3"],
    y=["1", "2"],
    template='simple_white',
    color_continuous_scale=[[0, '#FFFFFF'], [1, "#A59FD9"]]
)

fig_c.update_layout(
    xaxis_title='neuron index',
    yaxis_title='layer index',
    yaxis=dict(autorange='min')
)

fig_c

# %%
# does h13 mediate B + C?
A = 1 # fix A across base & source

# try changing the values of B & C - intervening on h13 seems to be enough to restore their computation!
base_input = {'A': A, 'B': 2, 'C': 3}
source_input = {'A': A, 'B': 4, 'C': 5}
toy_model_graph.display_interchange(base_input, {'h13': source_input})

# %%
# does h22 really mediate A + B + C?
base_input = {'A': 1, 'B': 2, 'C': 3}
source_input = {'A': 4, 'B': 5, 'C': 6}
toy_model_graph.display_interchange(base_input, {'h22': source_input})

# %%
# how can we be sure h12 represents A?
inputs = [1, 2, 3]
inputs = {'A': inputs[0], 'B': inputs[1], 'C': inputs[2]} # get inputs from cell above
toy_model_graph.display_forward_pass(inputs)

# %%
print(toy_model.l1.weight[1]) # weights corresponding to h12
print(toy_model.l1.bias[1]) # bias corresponding to h12

# %%
# now our model computes 2 * 1 + 2 + 3 instead of 1 + 2 + 3!
inputs = [1, 2, 3]
inputs = {'A': inputs[0], 'B': inputs[1], 'C': inputs[2]} # get inputs from cell above
toy_model_graph.display_forward_pass(inputs, intervention={'h12': 12.1})
